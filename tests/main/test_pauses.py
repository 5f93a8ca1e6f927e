"""Paused, borrowed and quiet devices over a real socket; and what devices may not make the main believe."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.scheduler import Moment
from retirecluster.domain.tasks import spec_from_document
from tests.support import LinePeer, connect, pause
from tests.web.conftest import http_of

AVAILABLE = {"state": "available"}
PAUSED = {
    "state": "paused",
    "reason": "battery 31 % < 40 %, on battery since 14:02",
    "since_s": 5.0,
    "running": "continue",
}
REGISTER = {"device_info": {"role": "worker"}, "hardware_specs": {"cpu_cores": 4, "memory_total": 2**33}, "slots": 2,
            "attempts": []}  # fmt: skip


class Played:
    """A device that the test plays."""

    def __init__(self, peer: LinePeer, name: str, answer: dict[str, Any]) -> None:
        self.peer, self.name, self.welcome = peer, name, answer

    def say(self, message_type: str, data: dict[str, Any]) -> None:
        self.peer.say(message_type, data, sender_id=self.name)

    async def expect(self, message_type: str) -> dict[str, Any]:
        data: dict[str, Any] = (await self.peer.expect(message_type))["data"]
        return data

    async def answered(self) -> None:
        """All that it has said so far has been dealt with."""
        self.say("ping", {})
        await self.peer.expect("pong")


async def device(node: Any, name: str, availability: Any = AVAILABLE, **register: Any) -> Played:
    peer = await connect(node.worker_port)
    said = REGISTER | ({} if availability is None else {"availability": availability}) | register
    peer.say("register", said, sender_id=name)
    return Played(peer, name, (await peer.expect("register_ack"))["data"])


async def submit(node: Any, **fields: Any) -> str:
    made = await node.rooms.desk.submit_tasks([spec_from_document({"task_type": "echo", **fields})])
    return str(made[0].task_id)


async def running(node: Any, played: Played, **fields: Any) -> str:
    """A task that the device runs."""
    task_id = await submit(node, **fields)
    await played.expect("task_assign")
    played.say("task_started", {"task_id": task_id, "epoch": 1})
    await played.answered()
    return task_id


def status(node: Any, name: str) -> tuple[str, str]:
    found = node.rooms.cluster.device(name)
    return found["status"], found["reason"]


@pytest_twisted.ensureDeferred
async def test_a_paused_device_is_shown_with_its_reason_and_gets_nothing(node: Any) -> None:
    phone = await device(node, "phone")
    phone.say("availability", PAUSED)
    await phone.answered()
    assert status(node, "phone") == ("paused", PAUSED["reason"])
    task_id = await submit(node)
    await pause(0.1)
    why = node.rooms.cluster.why(task_id)
    assert why["devices"] == [{"device_id": "phone", "fits": True, "reasons": [f"paused: {PAUSED['reason']}"]}]
    assert node.rooms.cluster.device("phone")["paused"]["since_s"] >= 5.0
    http = http_of(node)
    assert (await http.get("/text/devices")).text == f"phone|paused|-|-|0|{PAUSED['reason']}|1.0\n"
    phone.say("availability", AVAILABLE)
    assert (await phone.expect("task_assign"))["task"]["task_id"] == task_id
    assert status(node, "phone") == ("online", "")
    events = (await http.get("/api/v1/events?subject=device")).data["events"]
    assert [each["event"] for each in events] == ["registered", "paused", "available"]
    assert events[1]["reason"] == PAUSED["reason"]
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_device_that_registers_paused_gets_nothing_in_between(node: Any) -> None:
    task_id = await submit(node)
    phone = await device(node, "phone", PAUSED)
    await pause(0.1)
    assert node.rooms.scheduler.task(task_id).attempt is None
    assert "availability" not in node.rooms.scheduler.devices["phone"].register
    await phone.peer.leave()
    again = await device(node, "phone")
    await again.expect("task_assign")
    await again.peer.leave()


@pytest_twisted.ensureDeferred
async def test_what_is_handed_back_is_taken_away_and_not_charged(node: Any) -> None:
    phone = await device(node, "phone")
    task_id = await running(node, phone, max_retries=0)
    once = await running(node, phone, delivery="at_most_once")
    phone.say("availability", PAUSED | {"running": "hand_back"})
    phone.say("availability", PAUSED | {"running": "hand_back", "reason": "battery 30 % < 40 %"})
    assert (await phone.expect("task_cancel"))["task_id"] == task_id
    phone.say("task_result", {"task_id": task_id, "epoch": 1, "status": "cancelled"})
    await phone.expect("result_ack")
    task = node.rooms.scheduler.task(task_id)
    assert (task.state.value, task.charged) == ("queued", 0) and "phone is paused: battery 31 %" in task.reason
    assert node.rooms.scheduler.task(once).state.value == "running", "it must not run a second time"
    await phone.answered()
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_time_that_a_task_stands_still_is_no_overtime(node: Any) -> None:
    phone = await device(node, "phone")
    task_id = await running(node, phone, timeout=10)
    scheduler = node.rooms.scheduler
    task = scheduler.task(task_id)
    now = node.rooms.cluster.moment()

    def much_later(seconds: float) -> Moment:
        later = Moment(now.mono_s + seconds, now.wall_s + seconds)
        task.attempt.renewed_mono_s = later.mono_s
        return later

    held = scheduler.devices["phone"]
    scheduler.pauses.said(held, {"state": "paused", "running": "suspend"}, now)
    scheduler.check_leases(much_later(5000))
    assert task.attempt is not None
    scheduler.pauses.said(held, AVAILABLE, much_later(5000))
    scheduler.check_leases(much_later(5069))
    assert task.attempt is not None, "it has run for 69 of its 70 seconds"
    scheduler.check_leases(much_later(5071))
    assert task.attempt is None
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_task_that_stands_still_says_so_at_every_door(node: Any) -> None:
    phone = await device(node, "phone")
    task_id = await running(node, phone)
    http = http_of(node)
    await node.rooms.turns.committed()
    words = "suspended: battery 31 % < 40 %, on battery since 14:02"

    async def shown() -> list[str]:
        [row] = [each for each in (await http.get("/api/v1/tasks")).data["tasks"] if each["task_id"] == task_id]
        one = (await http.get(f"/api/v1/tasks/{task_id}")).data
        assert row["status"] == one["status"] == "running"
        return [row["reason"], one["reason"], (await http.get("/text/tasks")).text.strip().split("|")[7]]

    assert await shown() == ["", "", "-"]
    phone.say("availability", PAUSED | {"running": "suspend"})
    await phone.answered()
    assert await shown() == [words] * 3
    assert (await http.get(f"/api/v1/tasks/{task_id}/why")).data["reason"] == f"{words} (on phone, attempt 1)"
    assert f"REASON: {words}" in (await http.get(f"/text/tasks/{task_id}")).text
    phone.say("availability", AVAILABLE)
    await phone.answered()
    assert await shown() == ["", "", "-"]
    await phone.peer.leave()


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
@pytest_twisted.ensureDeferred
async def test_only_the_part_of_a_pause_in_which_tasks_stood_still_is_counted_out(node: Any, told: bool) -> None:
    phone = await device(node, "phone")
    task_id = await running(node, phone, timeout=4000, delivery="at_most_once")  # is not handed back
    scheduler, now = node.rooms.scheduler, node.rooms.cluster.moment()
    held, task = scheduler.devices["phone"], scheduler.task(task_id)
    started = task.attempt.started_mono_s

    def said(after_s: float, **availability: Any) -> None:
        still = {"still_s": availability.pop("still_s")} if told and "still_s" in availability else {}
        moment = Moment(now.mono_s + after_s, now.wall_s + after_s)
        scheduler.pauses.said(held, availability | still, moment)

    said(0.0, state="paused", running="continue", since_s=0.0)
    said(3600.0, state="paused", running="suspend", since_s=3600.0, still_s=0.0)
    said(3630.0, state="paused", running="hand_back", since_s=3630.0, still_s=30.0, reason="worse")
    said(3660.0, state="available")
    assert task.attempt.started_mono_s - started == pytest.approx(60.0)
    said(4000.0, state="paused", running="suspend", since_s=0.0, still_s=0.0)
    said(4010.0, state="available")
    assert task.attempt.started_mono_s - started == pytest.approx(70.0)
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_signals_reach_the_devices_that_understand_them(node: Any) -> None:
    http = http_of(node)
    phone, plain = await device(node, "phone"), await device(node, "plain", None)
    assert "signals" not in plain.welcome and phone.welcome["signals"] == {}
    put = await http.call("PUT", "/api/v1/signals/tariff", {"value": 0.31, "ttl_s": 60})
    assert (put.status, put.data["name"], put.data["value"], put.data["ttl_s"]) == (200, "tariff", 0.31, 60)
    told = (await phone.expect("signals"))["signals"]["tariff"]
    assert told["value"] == 0.31 and 0 < told["ttl_s"] <= 60
    assert (await http.call("PUT", "/api/v1/signals/solar.roof", {"value": True})).data["value"] == 1.0
    assert set((await phone.expect("signals"))["signals"]) == {"tariff", "solar.roof"}
    assert [each["name"] for each in (await http.get("/api/v1/signals")).data["signals"]] == ["solar.roof", "tariff"]
    late = await device(node, "late")
    assert late.welcome["signals"].keys() == {"tariff", "solar.roof"}
    assert (await http.call("DELETE", "/api/v1/signals/tariff")).status == 200
    assert set((await phone.expect("signals"))["signals"]) == {"solar.roof"}
    assert (await http.call("DELETE", "/api/v1/signals/tariff")).code == "not_found"
    assert (await http.get("/api/v1/signals/tariff")).code == "not_found"
    plain.say("ping", {})
    assert (await plain.peer.received.get())["message_type"] == "pong", "plain peers are told nothing of it"
    for each in (phone, plain, late):
        await each.peer.leave()


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("tariff", {}, "value"),
        ("tariff", {"value": "cheap"}, "value"),
        ("tariff", {"value": 1e300}, "value"),
        ("tariff", {"value": 1, "ttl_s": 0}, "ttl_s"),
        ("tariff", {"value": 1, "ttl_s": 1e9}, "ttl_s"),
        ("tariff", {"value": 1, "ttl": 5}, "ttl"),
        ("Tariff", {"value": 1}, "name"),
        ("a%1b%5b", {"value": 1}, "name"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_signals_that_are_none(node: Any, name: str, body: dict[str, Any], field: str) -> None:
    answer = await http_of(node).call("PUT", f"/api/v1/signals/{name}", body)
    assert answer.status == 422 and [each["field"] for each in answer.json["errors"]] == [field]


@pytest_twisted.ensureDeferred
async def test_there_are_not_endlessly_many_signals(node: Any) -> None:
    http = http_of(node)
    for number in range(256):
        await node.rooms.cluster.household.set_signal(f"s{number}", 1.0, 600.0)
    answer = await http.call("PUT", "/api/v1/signals/one-more", {"value": 1})
    assert (answer.status, answer.code) == (409, "conflict")
    assert (await http.call("PUT", "/api/v1/signals/s7", {"value": 2})).data["value"] == 2


@pytest_twisted.ensureDeferred
async def test_a_borrowed_device_rests_and_is_told(node: Any) -> None:
    http = http_of(node)
    phone = await device(node, "phone")
    answer = await http.post("/api/v1/devices/phone/borrow", {"for_s": 10_800, "running": "suspend"})
    assert answer.data["status"] == "paused" and answer.data["rest"]["running"] == "suspend"
    assert answer.data["reason"].startswith("borrowed by its owner for 3h, until ")
    rest = await phone.expect("rest")
    assert (rest["running"], rest["reason"]) == ("suspend", answer.data["reason"]) and 10_790 < rest["for_s"] <= 10_800
    # The device agrees, in the same words: they are said once.
    phone.say("availability", {"state": "paused", "reason": rest["reason"], "running": "suspend"})
    await phone.answered()
    assert status(node, "phone") == ("paused", rest["reason"])
    assert (await http.post("/api/v1/devices/phone/give_back", {})).data["rest"] is None
    assert (await phone.expect("rest"))["for_s"] == 0
    assert (await http.post("/api/v1/devices/nobody/borrow", {"for_s": 60})).code == "not_found"
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_of_two_rests_the_stronger_word_holds_however_long_each_is(node: Any) -> None:
    http = http_of(node)
    phone = await device(node, "phone")
    await http.post("/api/v1/cluster/quiet", {"for_s": 3600, "running": "suspend"})
    assert (await phone.expect("rest"))["running"] == "suspend"
    answer = await http.post("/api/v1/devices/phone/borrow", {"for_s": 7200})  # later, and with `continue`
    quiet, borrowed = answer.data["reason"].split("; ")
    assert quiet.startswith("the cluster is quiet for 1h") and borrowed.startswith("borrowed by its owner for 2h")
    assert answer.data["rest"]["running"] == "suspend" and answer.data["rest"]["for_s"] > 7190
    told = await phone.expect("rest")
    assert (told["running"], told["reason"]) == ("suspend", quiet) and 3590 < told["for_s"] <= 3600
    [also] = told["also"]
    assert (also["running"], also["reason"]) == ("continue", borrowed) and 7190 < also["for_s"] <= 7200
    # The device agrees in the same words, which are said once.
    phone.say("availability", {"state": "paused", "reason": f"{quiet}; {borrowed}", "running": "suspend"})
    await phone.answered()
    assert status(node, "phone") == ("paused", f"{quiet}; {borrowed}")
    # One that has heard of a part only: the rest of it is added, nothing said twice.
    phone.say("availability", {"state": "paused", "reason": borrowed, "running": "suspend"})
    await phone.answered()
    assert status(node, "phone") == ("paused", f"{quiet}; {borrowed}")
    assert (await http.get("/api/v1/cluster/status")).data["state"] == "all devices are paused"
    # Also one that comes while both hold is told both.
    late = await device(node, "late")
    assert late.welcome["rest"]["running"] == "suspend" and "also" not in late.welcome["rest"]
    await http.post("/api/v1/devices/phone/give_back", {})
    left = await phone.expect("rest")
    assert (left["running"], left["reason"]) == ("suspend", quiet) and "also" not in left
    for each in (phone, late):
        await each.peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_verified_task_waits_for_what_its_copy_waits_for(node: Any) -> None:
    http = http_of(node)
    phone = await device(node, "phone")
    task_id = await submit(node, verify=2, requirements={"role": "gpu-box"})
    told = (await http.get(f"/api/v1/tasks/{task_id}/why")).data
    assert told["task_id"] == task_id and told["copy"] not in (None, task_id)
    assert told["reason"].endswith(f"{told['copy']} is queued: no device fits: none of 1 has what it asks for")
    assert [row["device_id"] for row in told["devices"]] == ["phone"] and told["nearest"]
    assert (await http.get("/api/v1/cluster/status")).data["placement"] == "fastest_finish"
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_rest_ends_by_itself(node: Any) -> None:
    http = http_of(node)
    phone = await device(node, "phone")
    await http.post("/api/v1/cluster/quiet", {"for_s": 1, "reason": "the baby sleeps"})
    assert (await phone.expect("rest"))["reason"].endswith(": the baby sleeps")
    task_id = await submit(node)
    assert status(node, "phone")[0] == "paused"
    assert (await phone.expect("task_assign"))["task"]["task_id"] == task_id
    assert status(node, "phone")[0] == "online" and node.rooms.cluster.status()["quiet"] is None
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_plain_peer_rests_too_and_its_tasks_move(node: Any) -> None:
    plain = await device(node, "plain", None)
    task_id = await running(node, plain)
    await http_of(node).post("/api/v1/cluster/quiet", {"for_s": 60, "running": "hand_back"})
    assert (await plain.expect("task_cancel"))["task_id"] == task_id
    assert status(node, "plain")[0] == "paused"
    late = await device(node, "late")
    assert late.welcome["rest"]["running"] == "hand_back" and status(node, "late")[0] == "paused"
    for each in (plain, late):
        await each.peer.leave()


@pytest_twisted.ensureDeferred
async def test_the_history_of_a_device_in_three_formats(node: Any) -> None:
    http = http_of(node)
    phone = await device(node, "phone")
    phone.say(
        "heartbeat", {"system_metrics": {"cpu_usage": 20.0, "battery": {"level": 80}, "load_average": [0.5, 0, 0]}}
    )
    await phone.expect("heartbeat_ack")
    found = (await http.get("/api/v1/devices/phone/metrics?window=30m")).data
    assert (found["step"], found["step_s"], len(found["points"])) == ("minute", 60.0, 1)
    point = found["points"][0]
    assert (point["cpu_usage"], point["battery_level"], point["load"], point["temperature"]) == (20.0, 80.0, 0.5, None)
    assert (await http.get("/api/v1/devices/phone/metrics?window=30d")).data["step"] == "day"
    table = (await http.get("/text/devices/phone/metrics?format=csv")).text.splitlines()
    assert (
        table[0].startswith("at,cpu_usage,memory_usage")
        and table[1].startswith(f"{point['at'][:10]}")
        and ",20.0," in table[1]
    )
    assert (await http.get("/text/devices/phone/metrics")).text.count("|") == 11
    for window in ("", "x", "0", "91d"):
        answer = await http.get(f"/api/v1/devices/phone/metrics?window={window}")
        assert answer.status == 422 and answer.json["errors"][0]["field"] == "window"
    assert (await http.get("/api/v1/devices/nobody/metrics")).code == "not_found"
    await phone.peer.leave()


@pytest_twisted.ensureDeferred
async def test_histories_outlive_a_restart(make_node: Any) -> None:
    first = make_node()
    phone = await device(first, "phone")
    phone.say("heartbeat", {"system_metrics": {"cpu_usage": 42.0}})
    await phone.expect("heartbeat_ack")
    await first.stopService()
    await phone.peer.closed
    second = make_node()
    points = second.rooms.cluster.device_history("phone", 600.0)["points"]
    assert [point["cpu_usage"] for point in points] == [42.0]


@pytest_twisted.ensureDeferred
async def test_a_profile_shows_each_fact_with_its_source_and_what_is_unknown(node: Any) -> None:
    specs = {"cpu_cores": 4, "cpu_model": "4x Cortex-A72"}
    phone = await device(node, "phone", hardware_specs=specs, sources={"cpu_model": "/proc/cpuinfo"})
    profile = node.rooms.cluster.device("phone")["profile"]
    assert profile["cpu_model"] == {"value": "4x Cortex-A72", "source": "/proc/cpuinfo"}
    assert profile["cpu_cores"] == {"value": 4, "source": "the device"}
    assert profile["memory_total"] == {"value": None, "source": "unknown"}
    await phone.peer.leave()


# Bad input

BAD_REGISTER = [
    ({"hardware_specs": {"cpu_cores": 10**9}}, "data.hardware_specs.cpu_cores"),
    ({"hardware_specs": {"cpu_cores": -1}}, "data.hardware_specs.cpu_cores"),
    ({"hardware_specs": {"memory_total": -1}}, "data.hardware_specs.memory_total"),
    ({"hardware_specs": {"cpu_physical_cores": 0}}, "data.hardware_specs.cpu_physical_cores"),
    ({"hardware_specs": {"disks": [{"name": "sda", "total_bytes": -5}]}}, "data.hardware_specs.disks[0].total_bytes"),
    ({"hardware_specs": {"benchmark": {"integers": 1e9}}}, "data.hardware_specs.benchmark.integers"),
    (
        {"hardware_specs": {"network_interfaces": [{"name": "e", "mac": "x"}]}},
        "data.hardware_specs.network_interfaces[0]",
    ),
    ({"device_info": {"model": "Evil\x1b[2J"}}, "data.device_info.model"),
    ({"device_info": {"role": "a\nb"}}, "data.device_info.role"),
    ({"tools": {"x\x00y": "1"}}, "data.tools.'x\\x00y'"),
    ({"sources": {"cpu_model": "x" * 65}}, "data.sources.cpu_model"),
    ({"availability": {"state": "asleep"}}, "data.availability.state"),
    ({"speed": -1}, "data.speed"),
]
BAD_METRICS = [
    ({"load_average": [-1.0, 0, 0]}, "data.system_metrics.load_average[0]"),
    ({"uptime": -3}, "data.system_metrics.uptime"),
    ({"cpu_usage": 10**9}, "data.system_metrics.cpu_usage"),
    ({"battery": {"level": 300}}, "data.system_metrics.battery.level"),
    ({"battery": {"health": "x\x07"}}, "data.system_metrics.battery.health"),
    ({"disk_io": {"read_bytes": -1}}, "data.system_metrics.disk_io.read_bytes"),
    ({"network": {"sent_bytes_per_s": 1e300}}, "data.system_metrics.network.sent_bytes_per_s"),
    ({"throttling": {"now": ["a\x1b"]}}, "data.system_metrics.throttling.now[0]"),
    ({"owner_away_s": -1}, "data.system_metrics.owner_away_s"),
    ({"problems": ["x" * 201]}, "data.system_metrics.problems[0]"),
]


@pytest.mark.parametrize(("wrong", "field"), BAD_REGISTER)
@pytest_twisted.ensureDeferred
async def test_a_registration_that_makes_no_sense_is_refused_by_field(node: Any, wrong: Any, field: str) -> None:
    peer = await connect(node.worker_port)
    peer.say("register", REGISTER | wrong, sender_id="odd")
    error = (await peer.expect("error"))["data"]
    assert (error["code"], error["field"]) == ("bad_field", field)
    assert "odd" not in node.rooms.scheduler.devices
    peer.say("register", REGISTER, sender_id="odd")
    await peer.expect("register_ack")
    await submit(node)
    await peer.expect("task_assign")
    await peer.leave()


@pytest.mark.parametrize(("wrong", "field"), BAD_METRICS)
@pytest_twisted.ensureDeferred
async def test_metrics_that_make_no_sense_are_refused_by_field(node: Any, wrong: Any, field: str) -> None:
    odd = await device(node, "odd")
    odd.say("heartbeat", {"system_metrics": wrong})
    answer = await odd.expect("heartbeat_ack")
    assert [each["field"] for each in answer["left_out"]] == [field]
    assert node.rooms.scheduler.devices["odd"].metrics == {}
    await submit(node)
    await odd.expect("task_assign")
    await odd.peer.leave()


@pytest_twisted.ensureDeferred
async def test_no_number_is_no_load_and_a_clock_of_1970_harms_nobody(node: Any) -> None:
    odd = await device(node, "odd")
    for text in (b"NaN", b"Infinity", b"1e999"):
        odd.peer.send(b'{"message_type":"heartbeat","data":{"system_metrics":{"load_average":[' + text + b",0,0]}}}\n")
        [left_out] = (await odd.expect("heartbeat_ack"))["left_out"]
        assert left_out["field"] == "data.system_metrics.load_average[0]" and text.decode() in left_out["message"]
    odd.peer.say("heartbeat", {"system_metrics": {"cpu_usage": 1.0, "uptime": 5}}, sender_id="odd",
                 timestamp="1970-01-01T00:00:05Z")  # fmt: skip
    await odd.expect("heartbeat_ack")
    assert status(node, "odd")[0] == "online"
    assert len(node.rooms.cluster.device_history("odd", 600.0)["points"]) == 1
    await submit(node)
    await odd.expect("task_assign")
    await odd.peer.leave()


@pytest_twisted.ensureDeferred
async def test_what_no_table_names_is_not_kept(node: Any) -> None:
    odd = await device(node, "odd")
    junk = {"junk": ["x" * 1000] * 100, "battery": {"level": 5, "junk": "\x1b]0;evil"}, "cpu_usage": 3.0}
    odd.say("heartbeat", {"system_metrics": junk})
    await odd.expect("heartbeat_ack")
    assert node.rooms.scheduler.devices["odd"].metrics == {"battery": {"level": 5}, "cpu_usage": 3.0}
    assert "junk" not in json.dumps(node.rooms.cluster.device("odd"))
    await odd.peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_device_says_what_it_follows_and_what_it_cannot_tell(make_node: Any) -> None:
    node = make_node()
    more = {"policy": ["metered: deny"], "untold": ["network"]}
    phone = await device(node, "phone", PAUSED | more, cpus_offered=1)
    shown = node.rooms.cluster.device("phone")
    assert (shown["policy"], shown["policy_untold"], shown["speed"]) == (["metered: deny"], ["network"], None)
    assert (shown["cpu_cores"], shown["profile"]["cpu_cores"]["value"]) == (1, 4), "what it offers, and what it has"
    phone.say("availability", AVAILABLE)
    await phone.answered()
    shown = node.rooms.cluster.device("phone")
    assert (shown["policy"], shown["policy_untold"]) == ([], [])
    await device(node, "pi", speed=0.5)
    assert node.rooms.cluster.device("pi")["speed"] == 0.5
