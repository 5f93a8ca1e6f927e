"""What the page shows of the past: the cluster's last hour, and who ran what when."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from twisted.internet.task import Clock

from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Moment
from retirecluster.domain.scheduler.ledger import Ledger
from retirecluster.main.pulse import STEPS, Pulse
from tests.web.device import played
from tests.web.http import Http


def at(clock: Clock) -> Moment:
    return Moment(clock.seconds(), 1000.0 + clock.seconds())


def test_a_point_is_what_happened_between_two_samples() -> None:
    pulse, ledger, clock = Pulse(), Ledger(), Clock()
    pulse.beat(ledger, at(clock))
    assert pulse.document(at(clock)) == {"step_s": 10.0, "points": []}
    ledger.finished[State.COMPLETED] += 25
    ledger.finished[State.LOST] += 5
    ledger.counts[State.QUEUED] += 7
    ledger.counts[State.HELD] += 1
    ledger.counts[State.RUNNING] += 2
    ledger.wait_s.observe(1.0)
    ledger.wait_s.observe(4.0)
    clock.advance(10)
    pulse.beat(ledger, at(clock))
    clock.advance(9.9)
    pulse.beat(ledger, at(clock))  # too early: no sample
    assert pulse.document(at(clock))["points"] == [
        {
            "at": "1970-01-01T00:16:50.000Z",
            "completed_per_s": 2.5,
            "failed_per_s": 0.5,
            "waiting": 8,
            "running": 2,
            "mean_wait_s": 2.5,
        }
    ]
    clock.advance(0.1)
    pulse.beat(ledger, at(clock))
    assert [each["mean_wait_s"] for each in pulse.document(at(clock))["points"]] == [2.5, None]


def test_an_hour_is_kept() -> None:
    pulse, clock = Pulse(), Clock()
    for _ in range(2 * STEPS):
        pulse.beat(Ledger(), at(clock))
        clock.advance(10)
    assert len(pulse.document(at(clock))["points"]) == STEPS


@pytest_twisted.ensureDeferred
async def test_the_main_beats(node: Any, http: Http) -> None:
    node.rooms.heartbeat.update_cluster_metrics()
    samples = node.rooms.heartbeat.pulse.samples
    assert len(samples) == 1
    answer = await http.get("/api/v1/cluster/history")
    assert answer.data["step_s"] == 10.0 and isinstance(answer.data["points"], list)


@pytest_twisted.ensureDeferred
async def test_attempts_tell_who_ran_what_when(node: Any, http: Http) -> None:
    phone, board = await played(node, "phone", slots=1), await played(node, "board", slots=1)
    tasks = [{"task_type": "echo", "payload": {}, "name": name} for name in ("one", "two", "three")]
    await http.post("/api/v1/tasks", tasks)
    first, second = await phone.take(), await board.take()
    await phone.finish(first)
    third = await phone.take()
    data = (await http.get("/api/v1/attempts")).data
    assert data["complete"] is True and data["since_at"].endswith("Z")
    shown = {each["task_id"]: each for each in data["attempts"]}
    assert set(shown) == {first["task_id"], second["task_id"], third["task_id"]}
    ended = shown[first["task_id"]]
    assert (ended["device_id"], ended["outcome"], ended["status"], ended["epoch"]) == (
        "phone",
        "completed",
        "completed",
        1,
    )
    assert ended["granted_at"] <= ended["started_at"] <= ended["finished_at"]
    running = shown[second["task_id"]]
    assert (running["device_id"], running["outcome"], running["finished_at"]) == ("board", None, None)
    assert {each["name"] for each in data["attempts"]} == {"one", "two", "three"}
    of_board = (await http.get("/api/v1/attempts?device=board")).data["attempts"]
    assert [each["task_id"] for each in of_board] == [second["task_id"]]
    newest = (await http.get("/api/v1/attempts?limit=1")).data
    assert [each["task_id"] for each in newest["attempts"]] == [third["task_id"]]
    assert newest["complete"] is False
    await phone.leave()
    await board.leave()


@pytest_twisted.ensureDeferred
async def test_what_ended_before_the_window_is_left_out(node: Any, http: Http) -> None:
    device = await played(node)
    await http.post("/api/v1/tasks", {"task_type": "echo", "payload": {}})
    await device.finish(await device.take())
    now = node.rooms.cluster.moment
    node.rooms.cluster.moment = lambda: Moment(now().mono_s, now().wall_s + 600)
    assert len((await http.get("/api/v1/attempts?window=11m")).data["attempts"]) == 1
    assert (await http.get("/api/v1/attempts?window=5m")).data["attempts"] == []
    assert (await http.get("/api/v1/attempts?window=5m&device=pixel-3")).data["attempts"] == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_a_window_and_a_device_are_checked(http: Http) -> None:
    for query, field in (("window=25h", "window"), ("window=soon", "window"), ("limit=0", "limit")):
        answer = await http.get(f"/api/v1/attempts?{query}")
        assert (answer.status, answer.json["errors"][0]["field"]) == (422, field), query
    assert (await http.get("/api/v1/attempts?device=nobody")).status == 404
