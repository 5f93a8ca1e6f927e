"""Promises that two things at once, or a restart in between, could break: each over a real socket."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.errors import ClusterError
from retirecluster.store import database as database_module
from tests.main.test_pauses import Played, device, running, submit
from tests.support import pause


def lock(node: Any) -> sqlite3.Connection:
    """Another program writes to the main's database, and takes its time."""
    connection = sqlite3.connect(node.rooms.database.path)
    connection.execute("BEGIN IMMEDIATE")
    return connection


async def status(node: Any, task_id: str) -> str:
    return str((await node.rooms.cluster.task(task_id))["status"])


async def until(node: Any, task_id: str, wanted: str) -> None:
    for _ in range(200):
        if await status(node, task_id) == wanted:
            return
        await pause(0.05)
    raise AssertionError(f"{await status(node, task_id)}, not {wanted}")


@pytest_twisted.ensureDeferred
async def test_a_submit_that_is_answered_with_an_error_does_not_run(monkeypatch: Any, make_node: Any) -> None:
    """Whoever heard the error submits again: then it would run twice."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.2)
    node = make_node()
    one = await device(node, "one")
    locked = lock(node)
    with pytest.raises(ClusterError) as caught:
        await submit(node)
    assert caught.value.code == "store_busy"
    [task] = node.rooms.scheduler.ledger.tasks.values()
    locked.rollback()
    locked.close()
    await node.rooms.turns.committed()
    await until(node, task.task_id, "cancelled")
    again = await submit(node)
    assert (await one.expect("task_assign"))["task"]["task_id"] == again, "the first one was never sent"
    await one.peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_result_sent_just_before_the_farewell_counts(node: Any) -> None:
    """Its files are still being looked at when the farewell comes, which hands back whatever is not over."""
    one = await device(node, "one")
    task_id = await running(node, one, delivery="at_most_once")
    content = b"hello"
    digest = hashlib.sha256(content).hexdigest()
    await node.rooms.files.store.add(digest, "device one", 0, content, len(content))
    artifacts = [{"name": "o.txt", "sha256": digest, "size_bytes": len(content)}]
    one.say("task_result", {"task_id": task_id, "epoch": 1, "status": "completed", "artifacts": artifacts})
    one.say("disconnect", {"reason": "worker stopped"})
    await until(node, task_id, "completed")
    assert node.rooms.cluster.device("one")["status"] == "offline"


@pytest_twisted.ensureDeferred
async def test_a_device_that_refuses_is_left_alone_for_longer_and_longer(node: Any) -> None:
    bad = await device(node, "bad")
    task_id = await submit(node)
    epochs = []
    for _ in range(4):
        task = (await bad.expect("task_assign"))["task"]
        epochs.append(task["epoch"])
        bad.say("task_refused", {"task_id": task_id, "epoch": task["epoch"], "reason": "no space left on device"})
        await bad.answered()
        found = node.rooms.cluster.device("bad")
        assert (found["status"], found["reason"]) == ("paused", "it refused a task: no space left on device")
    assert epochs == [1, 2, 3, 4]
    good = await device(node, "good")
    assert (await good.expect("task_assign"))["task"]["task_id"] == task_id, "another one takes it meanwhile"
    await bad.peer.leave()
    await good.peer.leave()


@pytest_twisted.ensureDeferred
async def test_what_a_drain_stops_is_not_charged_though_the_main_restarts(make_node: Any) -> None:
    node = make_node()
    one = await device(node, "one")
    task_id = await running(node, one, max_retries=0)
    await node.rooms.cluster.device_action("one", "drain", 0.05)
    await one.expect("task_cancel")
    await node.stopService()
    node = make_node()
    claim = {"task_id": task_id, "epoch": 1, "state": "spooled"}
    one = await device(node, "one", attempts=[claim])
    one.say("task_result", {"task_id": task_id, "epoch": 1, "status": "cancelled", "execution_time": 3.0})
    await one.expect("result_ack")
    found = await node.rooms.cluster.task(task_id)
    assert (found["status"], found["charged"]) == ("queued", 0)
    assert node.rooms.cluster.device("one")["status"] == "draining", "a person's drain outlives both"
    await one.peer.leave()


async def beat(one: Played, *task_ids: str) -> list[dict[str, Any]]:
    one.say("heartbeat", {"attempts": [{"task_id": each, "epoch": 1} for each in task_ids]})
    answer = await one.expect("heartbeat_ack")
    assert [each["task_id"] for each in answer["renewed"]] == [task_ids[-1]]
    return list(answer["stop"])


@pytest_twisted.ensureDeferred
async def test_heartbeats_are_answered_while_the_database_is_locked(monkeypatch: Any, make_node: Any) -> None:
    """Also one that names an attempt whose end is not on disk yet: what runs beside it keeps its lease."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.2)
    node = make_node()
    one = await device(node, "one")
    ended, other = await running(node, one), await running(node, one, on_disconnect="stop")
    locked = lock(node)
    one.say("task_result", {"task_id": ended, "epoch": 1, "status": "completed"})
    assert await beat(one, ended, other) == [], "not before it is sure"
    locked.rollback()
    locked.close()
    await one.expect("result_ack")
    await pause(0.6)  # two heartbeats a second at most
    assert [each["task_id"] for each in await beat(one, ended, other)] == [ended]
    await one.peer.leave()
