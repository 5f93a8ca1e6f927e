"""The event log folded: what it gives, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retirecluster.domain.replay import LogBroken, TaskFacts, replay


def task(no: int, status: str, epoch: int = 0, **data: Any) -> tuple[Any, ...]:
    facts = {"status": status, "epoch": epoch, "charged": 0, "crashes": 0, "reason": "", **data}
    return (no, 1.0, "task", "step", "t", None, json.dumps(facts))


def device(no: int, kind: str, status: str) -> tuple[Any, ...]:
    return (no, 1.0, "device", kind, None, "d", json.dumps({"status": status}))


def test_the_last_word_counts() -> None:
    found = replay([task(1, "queued"), task(2, "assigned", 1), task(3, "failed", 1, charged=1, reason="no")])
    assert found.tasks == {"t": TaskFacts("failed", 1, 1, 0, "no")}
    assert found.last_event_no == 3


@pytest.mark.parametrize(
    ("status", "presence"),
    [
        ("online", "online"),
        ("draining", "online"),
        ("cordoned", "online"),
        ("offline", "offline"),
        ("disconnected", "disconnected"),
    ],
)
def test_the_presence_of_devices(status: str, presence: str) -> None:
    assert replay([device(1, "registered", status)]).devices == {"d": presence}
    assert replay([device(1, "registered", status), device(2, "removed", "removed")]).devices == {}


def test_a_log_that_was_cut_at_the_front() -> None:
    assert replay([task(71, "queued"), task(72, "held")]).tasks["t"].state == "held"


def test_what_is_about_the_cluster_changes_no_task() -> None:
    assert replay([(1, 1.0, "cluster", "restored", None, None, "{}")]).tasks == {}


def test_gaps_and_strangers() -> None:
    with pytest.raises(LogBroken, match="after event 1 comes 3"):
        replay([task(1, "queued"), task(3, "held")])
    with pytest.raises(LogBroken, match="after event 1 comes 1"):
        replay([task(1, "queued"), task(1, "held")])
    with pytest.raises(LogBroken, match="nobody knows"):
        replay([(1, 1.0, "planet", "moved", None, None, "{}")])
