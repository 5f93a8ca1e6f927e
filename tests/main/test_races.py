"""Things that happen at the same time: each of these was wrong once."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.tasks import spec_from_document
from tests.main.test_bad_claims import device
from tests.support import connect, pause


def keyed(count: int, **more: Any) -> list[Any]:
    return [spec_from_document({"task_type": "echo", "idempotency_key": f"key-{n}"} | more) for n in range(count)]


@pytest_twisted.ensureDeferred
async def test_the_same_keys_in_requests_that_overlap_are_the_same_tasks(node: Any) -> None:
    submit = node.rooms.cluster.submit
    batches = [Deferred.fromCoroutine(submit(keyed(300)))]
    for number in range(0, 300, 10):
        batches.append(Deferred.fromCoroutine(submit(keyed(300)[number : number + 3])))
        await pause(0.001)
    first, *others = await gatherResults(batches)
    ids = [each.task_id for each in first]
    for number, other in zip(range(0, 300, 10), others, strict=True):
        assert [each.task_id for each in other] == ids[number : number + 3]
        assert not any(each.created for each in other)
    await node.rooms.turns.committed()  # keys are given back once what was decided is on disk
    queued, taken = node.rooms.scheduler.ledger.counts[State.QUEUED], list(node.rooms.desk._taken_keys)
    assert (queued, taken) == (300, [])


@pytest_twisted.ensureDeferred
async def test_another_request_under_a_key_is_refused_and_the_key_stays_usable(node: Any) -> None:
    submit = node.rooms.cluster.submit
    [first] = await submit(keyed(1))
    try:
        await submit(keyed(1, name="other"))
    except ClusterError as error:
        assert error.code == "idempotency_conflict"
    else:
        raise AssertionError("it was taken")
    [again] = await submit(keyed(1))
    assert (again.task_id, again.created) == (first.task_id, False)


@pytest_twisted.ensureDeferred
async def test_a_connection_that_ends_while_it_registers_is_not_online(node: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("retirecluster.main.registry.PING_S", 0.3)
    older, _ = await device(node, "one")
    newer = await connect(node.worker_port)
    newer.say("register", {"device_info": {}}, sender_id="one")
    await older.expect("ping")
    await newer.leave()
    await pause(0.6)
    assert node.rooms.scheduler.devices["one"].status != "online"
    assert "one" not in node.rooms.registry.sessions


@pytest_twisted.ensureDeferred
async def test_a_device_that_is_removed_and_comes_back_at_once_is_on_disk(node: Any) -> None:
    one, _ = await device(node, "one")
    one.say("disconnect", sender_id="one")
    await one.closed
    await pause(0.2)
    scheduler, moment = node.rooms.scheduler, node.rooms.turns.moment
    known = scheduler.devices["one"]
    scheduler.remove(known, moment())
    scheduler.register(known.profile, known.register, {}, moment())
    await node.rooms.turns.committed()
    rows = await node.rooms.database.read(lambda cursor: cursor.execute("SELECT device_id FROM devices").fetchall())
    assert rows == [("one",)]


@pytest_twisted.ensureDeferred
async def test_the_end_of_a_task_is_waited_for_until_it_is_on_disk(node: Any) -> None:
    one, _ = await device(node, "one")
    for _ in range(20):
        [submitted] = await node.rooms.cluster.submit([spec_from_document({"task_type": "echo"})])
        await one.expect("task_assign")
        one.say("task_result", {"task_id": submitted.task_id, "status": "completed"}, sender_id="one")
        ended = await node.rooms.cluster.wait(submitted.task_id, 10)
        assert ended["status"] == "completed"
        ends = dict(node.rooms.desk._ends)
        assert ends == {}
    await one.leave()


@pytest_twisted.ensureDeferred
async def test_a_wait_that_is_over_leaves_nothing_behind(node: Any) -> None:
    [submitted] = await node.rooms.cluster.submit([spec_from_document({"task_type": "echo"})])
    assert (await node.rooms.cluster.wait(submitted.task_id, 0.05))["status"] == "queued"
    ends = dict(node.rooms.desk._ends)
    assert ends == {}


def test_pieces_of_output_without_text_are_counted_too() -> None:
    from retirecluster.main.outputs import OutputBoard

    board = OutputBoard()
    for seq in range(100_000):
        board.add("task", 1, seq, "stdout", "")
    assert len(board.by_task["task"].chunks) < 10_000
