"""The same idempotency key again while the first submission is on its way to disk: one task, whenever it comes."""

from __future__ import annotations

import time
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import ensureDeferred

from retirecluster.domain.tasks import spec_from_document
from retirecluster.store import reads


@pytest_twisted.ensureDeferred
async def test_a_key_that_is_committed_while_it_is_looked_up(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = reads.by_key_txn, []

    def slow_the_second_time(cursor: Any, keys: Any) -> Any:
        found = real(cursor, keys)
        calls.append(keys)
        time.sleep(0.2 if len(calls) == 2 else 0.0)  # what was read is old by now
        return found

    monkeypatch.setattr(reads, "by_key_txn", slow_the_second_time)
    spec = spec_from_document({"task_type": "echo", "idempotency_key": "k"})
    first, second = (ensureDeferred(node.rooms.cluster.submit([spec])) for _ in range(2))
    [one], [other] = await first, await second
    assert one.task_id == other.task_id and (one.created, other.created) == (True, False)
    assert not node.rooms.turns.stopped and len(calls) == 2
