"""Devices that claim what is not theirs, or what never was: one clear answer each, and nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.tasks import spec_from_document
from tests.support import LinePeer, connect, pause

BAD = ("bad_field", "bad_number")
HARDWARE = {"cpu_cores": 4, "memory_total": 2**33}
REGISTER = {"device_info": {"role": "worker"}, "hardware_specs": HARDWARE, "slots": 2, "attempts": []}


async def device(node: Any, name: str, **register: Any) -> tuple[LinePeer, dict[str, Any]]:
    """A registered device, and the answer to its registration."""
    peer = await connect(node.worker_port)
    peer.say("register", REGISTER | register, sender_id=name)
    return peer, (await peer.expect("register_ack"))["data"]


async def submit(node: Any, **fields: Any) -> str:
    made = await node.rooms.desk.submit_tasks([spec_from_document({"task_type": "echo", **fields})])
    return str(made[0].task_id)


def state(node: Any) -> dict[str, Any]:
    """Everything the scheduler holds of tasks and devices."""
    scheduler = node.rooms.scheduler
    return {
        "tasks": {
            task.task_id: (task.state, task.epoch, task.charged, task.crashes, task.device_id, task.attempt)
            for task in scheduler.ledger.tasks.values()
        },
        "held": {name: sorted(each.attempts) for name, each in scheduler.devices.items()},
        "counts": dict(scheduler.ledger.counts),
    }


async def held_by_one(node: Any) -> tuple[LinePeer, LinePeer, str]:
    """Devices one and two, and a task that one runs."""
    one, _ = await device(node, "one")
    task_id = await submit(node)
    await one.expect("task_assign")
    one.say("task_started", {"task_id": task_id, "epoch": 1}, sender_id="one")
    two, _ = await device(node, "two")
    await pause(0.15)
    return one, two, task_id


def result(task_id: str, epoch: int | None = 1, **rest: Any) -> dict[str, Any]:
    data = {"task_id": task_id, "status": "completed", "execution_time": 1.0, "result": {"output": "x"}} | rest
    return data if epoch is None else data | {"epoch": epoch}


@pytest_twisted.ensureDeferred
async def test_a_result_for_a_task_that_never_was(node: Any) -> None:
    one, two, _ = await held_by_one(node)
    before = state(node)
    for epoch in (None, 1, 7):
        two.say("task_result", result("task-000000000000", epoch), sender_id="two")
        answer = (await two.expect("result_ack"))["data"]
        assert answer["accepted"] is False and answer["reason"] == "there is no task task-000000000000"
    assert state(node) == before
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_a_result_for_somebody_elses_attempt(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    before = state(node)
    for epoch in (None, 1):
        two.say("task_result", result(task_id, epoch), sender_id="two")
        answer = (await two.expect("result_ack"))["data"]
        assert answer["accepted"] is False and "is not held by two" in answer["reason"]
    two.say("task_result", result(task_id), sender_id="one")  # a borrowed name does not help: the session counts
    assert (await two.expect("result_ack"))["data"]["accepted"] is False
    assert state(node) == before
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_results_for_attempts_of_the_past_and_of_the_future(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    one.say("task_result", result(task_id, status="failed"), sender_id="one")
    assert (await one.expect("result_ack"))["data"]["accepted"] is True
    before = state(node)
    for peer, name in ((one, "one"), (two, "two")):
        for epoch in (2, 10**9):
            peer.say("task_result", result(task_id, epoch), sender_id=name)
            answer = (await peer.expect("result_ack"))["data"]
            assert answer["accepted"] is False and "is current" in answer["reason"]
    one.say("task_result", result(task_id, 1), sender_id="one")
    answer = (await one.expect("result_ack"))["data"]
    assert answer["accepted"] is False, "another result than the one on record"
    one.say("task_result", result(task_id, 1, status="failed"), sender_id="one")
    assert (await one.expect("result_ack"))["data"]["accepted"] is True, "the same one again is fine"
    after = state(node)
    assert after["counts"] == before["counts"] and after["tasks"].keys() == before["tasks"].keys()
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_a_result_for_a_task_that_has_ended(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    one.say("task_result", result(task_id), sender_id="one")
    assert (await one.expect("result_ack"))["data"]["accepted"] is True
    document = await node.rooms.cluster.task(task_id)
    for peer, name, told in ((two, "two", result(task_id)), (one, "one", result(task_id, result={"output": "y"}))):
        peer.say("task_result", told, sender_id=name)
        assert (await peer.expect("result_ack"))["data"]["accepted"] is False
    assert await node.rooms.cluster.task(task_id) == document
    assert (await node.rooms.cluster.result(task_id))["output"] == "x"
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_words_about_somebody_elses_attempt(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    before = state(node)
    mine = {"task_id": task_id, "epoch": 1}
    for name, data, code in (
        ("task_started", mine, "not_holder"),
        ("task_started", mine | {"epoch": 2}, "stale_attempt"),
        ("task_refused", mine | {"reason": "no"}, "not_holder"),
        ("task_refused", {"task_id": task_id, "reason": "no"}, "not_holder"),
        ("task_progress", mine | {"percent": 50}, "not_holder"),
        ("task_output", mine | {"stream": "stdout", "seq": 0, "data": "not mine"}, "not_holder"),
        ("task_started", {"task_id": "task-000000000000"}, "not_found"),
    ):
        two.say(name, data, sender_id="two", message_id=f"about-{name}")
        error = await two.expect("error")
        assert (error["data"]["code"], error["in_reply_to"]) == (code, f"about-{name}")
    assert state(node) == before
    assert node.rooms.cluster.outputs.read(task_id, 0) is None
    await one.leave()
    await two.leave()


@pytest.mark.parametrize("epoch", [0, -1, 2**63, 10**30, 1.5, "1", True, [1], {}])
@pytest_twisted.ensureDeferred
async def test_an_epoch_that_is_none(node: Any, epoch: Any) -> None:
    one, two, task_id = await held_by_one(node)
    before = state(node)
    claim = {"task_id": task_id, "epoch": epoch}
    for name, data in (
        ("task_result", result(task_id, None) | {"epoch": epoch}),
        ("task_started", claim),
        ("heartbeat", {"system_metrics": {}, "status": "online", "attempts": [claim]}),
    ):
        one.say(name, data, sender_id="one")
        error = (await one.expect("error"))["data"]
        assert error["code"] in BAD, error
        assert error["code"] == "bad_number" or "epoch" in error["field"]
    three = await connect(node.worker_port)
    three.say("register", REGISTER | {"attempts": [claim | {"state": "running"}]}, sender_id="three")
    assert (await three.expect("error"))["data"]["code"] in BAD
    assert state(node) == before
    for peer in (one, two, three):
        await peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_register_that_claims_what_others_hold(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    before = state(node)
    claims = [
        {"task_id": task_id, "epoch": 1, "state": claimed} for claimed in ("queued", "running", "spooled", "died")
    ]
    for claim in claims:
        three, answer = await device(node, "three", attempts=[claim])
        assert answer["resume"] == [] and answer["stop"] == [{"task_id": task_id, "epoch": 1, "final": False}]
        after = state(node)
        assert after["tasks"] == before["tasks"] and after["held"]["one"] == [task_id]
        await three.leave()
    await one.leave()
    await two.leave()


@pytest_twisted.ensureDeferred
async def test_a_claimed_death_of_somebody_elses_attempt_is_no_evidence(node: Any) -> None:
    """Three lies would put the task on hold."""
    one, _ = await device(node, "one", slots=1)
    task_id = await submit(node)
    await one.expect("task_assign")
    one.say("task_result", result(task_id, status="failed"), sender_id="one")
    await one.expect("result_ack")
    before = state(node)["tasks"][task_id]
    for number in range(4):
        liar, _ = await device(
            node, f"liar-{number}", slots=1, attempts=[{"task_id": task_id, "epoch": 1, "state": "died"}]
        )
        await liar.leave()
    task = node.rooms.scheduler.task(task_id)
    assert task is not None and task.crashes == before[3] == 0
    await one.leave()


@pytest_twisted.ensureDeferred
async def test_a_hundred_thousand_claims_are_refused_and_ten_thousand_are_answered(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    before = state(node)["tasks"]
    claims = [{"task_id": f"task-{number:012}", "epoch": 1, "state": "running"} for number in range(100_000)]
    three = await connect(node.worker_port)
    three.say("register", REGISTER | {"attempts": claims}, sender_id="three")
    assert (await three.expect("error"))["data"]["code"] == "line_too_long"
    await three.closed
    short = [{"task_id": f"t{number}", "epoch": 1, "state": "died"} for number in range(10_001)]
    three = await connect(node.worker_port)
    three.say("register", REGISTER | {"attempts": short}, sender_id="three")
    error = (await three.expect("error"))["data"]
    assert error["code"] == "bad_field" and error["field"].startswith("data.attempts")
    three.say("register", REGISTER | {"attempts": short[:10_000]}, sender_id="three")
    answer = (await three.expect("register_ack"))["data"]
    assert answer["resume"] == [] and len(answer["stop"]) == 10_000
    assert state(node)["tasks"] == before
    assert task_id in before
    for peer in (one, two, three):
        await peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_heartbeat_renews_nothing_of_others(node: Any) -> None:
    one, two, task_id = await held_by_one(node)
    task = node.rooms.scheduler.task(task_id)
    renewed_s = task.attempt.renewed_mono_s
    claims = [{"task_id": task_id, "epoch": 1}, {"task_id": task_id, "epoch": 2}, {"task_id": "task-0", "epoch": 1}]
    two.say("heartbeat", {"system_metrics": {}, "status": "online", "attempts": claims}, sender_id="two")
    answer = (await two.expect("heartbeat_ack"))["data"]
    assert answer["renewed"] == []
    assert [{name: each[name] for name in ("task_id", "epoch")} for each in answer["stop"]] == claims
    assert task.attempt.renewed_mono_s == renewed_s and task.attempt.device_id == "one"
    await one.leave()
    await two.leave()
