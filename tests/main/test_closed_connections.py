"""Ways in which a connection ends, and what the main makes of each: see docs/adr/0004-closed-connections.md."""

from __future__ import annotations

from typing import Any

import pytest_twisted

from retirecluster.domain.devices import Presence
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Task
from tests.main.test_bad_claims import device, submit
from tests.support import LinePeer, pause


async def running(node: Any) -> tuple[LinePeer, Task]:
    one, _ = await device(node, "one")
    task_id = await submit(node)
    await one.expect("task_assign")
    one.say("task_started", {"task_id": task_id, "epoch": 1}, sender_id="one")
    await pause(0.15)
    task = node.rooms.scheduler.task(task_id)
    assert task is not None and task.state is State.RUNNING
    return one, task


@pytest_twisted.ensureDeferred
async def test_the_end_of_the_stream_is_the_end_of_the_process(make_node: Any) -> None:
    node = make_node(failover_grace_s=0.05)
    one, task = await running(node)
    await one.leave()
    await pause(0.3)
    assert (task.state, task.charged) == (State.QUEUED, 0)
    assert node.rooms.scheduler.devices["one"].shown_reason == "its connection was closed without a farewell"


@pytest_twisted.ensureDeferred
async def test_a_reset_may_come_from_a_worker_that_lives(make_node: Any) -> None:
    node = make_node(failover_grace_s=0.05)
    one, task = await running(node)
    one.transport.abortConnection()
    await one.closed
    await pause(0.5)
    assert node.rooms.scheduler.devices["one"].presence is Presence.DISCONNECTED
    assert (task.state, task.epoch) == (State.RUNNING, 1)
    assert node.rooms.scheduler.devices["one"].shown_reason == "its connection was reset"
    again, answer = await device(node, "one", attempts=[{"task_id": task.task_id, "epoch": 1, "state": "running"}])
    assert answer["resume"] == [{"task_id": task.task_id, "epoch": 1}]
    await again.leave()


@pytest_twisted.ensureDeferred
async def test_a_worker_that_says_that_it_returns_keeps_what_it_runs(node: Any) -> None:
    one, task = await running(node)
    one.say("disconnect", {"reason": "the main is silent", "returning": True}, sender_id="one")
    await one.closed
    await pause(0.3)
    assert node.rooms.scheduler.devices["one"].presence is Presence.DISCONNECTED
    assert (task.state, task.epoch) == (State.RUNNING, 1)


@pytest_twisted.ensureDeferred
async def test_a_worker_that_leaves_hands_back(node: Any) -> None:
    one, task = await running(node)
    one.say("disconnect", {"reason": "switched off"}, sender_id="one")
    await one.closed
    await pause(0.1)
    assert task.state is State.QUEUED and task.charged == 0
