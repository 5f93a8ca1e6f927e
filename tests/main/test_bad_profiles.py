"""Devices that say nonsense of themselves: refused by the name of the field, or harmless; placement goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from tests.main.test_bad_claims import HARDWARE, REGISTER, device, result, submit
from tests.support import connect, pause
from tests.web.conftest import http_of

BAD = [
    ({"hardware_specs": HARDWARE | {"cpu_cores": 10**9}}, "hardware_specs.cpu_cores"),
    ({"hardware_specs": HARDWARE | {"memory_total": -1}}, "hardware_specs.memory_total"),
    ({"hardware_specs": HARDWARE | {"disk_free": 2**62 + 1}}, "hardware_specs.disk_free"),
    ({"hardware_specs": HARDWARE | {"cpu_cores": "four"}}, "hardware_specs.cpu_cores"),
    ({"slots": 0}, "slots"),
    ({"slots": 10**9}, "slots"),
    ({"speed": 1e300}, "speed"),
    ({"speed": -1}, "speed"),
    ({"device_info": {"role": "wor\x00ker"}}, "device_info.role"),
    ({"device_info": {"hostname": "a\x1b[2Jb"}}, "device_info.hostname"),
    ({"tags": ["line\nbreak"]}, "tags[0]"),
    ({"labels": {"watts": "\x07"}}, "labels.watts"),
]


async def a_good_device_still_gets_tasks(node: Any) -> None:
    good, _ = await device(node, "good")
    task_id = await submit(node, requirements={"device": "good"})
    assigned = await good.expect("task_assign")
    assert assigned["data"]["task"]["task_id"] == task_id


@pytest.mark.parametrize(("said", "field"), BAD)
@pytest_twisted.ensureDeferred
async def test_what_cannot_be_is_refused_by_field(node: Any, said: dict[str, Any], field: str) -> None:
    peer = await connect(node.worker_port)
    peer.say("register", REGISTER | said, sender_id="liar")
    error = (await peer.expect("error"))["data"]
    assert error["code"] in ("bad_field", "bad_number") and error["field"] == f"data.{field}"
    assert "liar" not in node.rooms.scheduler.devices
    await a_good_device_still_gets_tasks(node)


@pytest_twisted.ensureDeferred
async def test_a_name_with_control_characters_is_refused(node: Any) -> None:
    peer = await connect(node.worker_port)
    peer.say("register", REGISTER, sender_id="a\x07b")
    assert (await peer.expect("error"))["data"]["field"] == "sender_id"
    assert not node.rooms.scheduler.devices
    await a_good_device_still_gets_tasks(node)


@pytest.mark.parametrize("load", ["NaN", "1e999", "-5", "1e9", "100.4", '"high"', str(2**70)])
@pytest_twisted.ensureDeferred
async def test_nonsense_in_a_report_is_refused_by_field_and_the_device_lives_on(node: Any, load: str) -> None:
    peer, _ = await device(node, "odd")
    task_id = await submit(node)
    await peer.expect("task_assign")
    said = {
        "message_type": "heartbeat",
        "sender_id": "odd",
        "data": {
            "system_metrics": {"cpu_usage": 7777, "memory_usage": 12.5},
            "attempts": [{"task_id": task_id, "epoch": 1}],
        },
    }
    picture = node.rooms.scheduler.devices["odd"]
    seen_at = picture.last_seen_mono_s
    await pause(0.01)
    peer.send(json.dumps(said).replace("7777", load).encode() + b"\n")
    answer = (await peer.expect("heartbeat_ack"))["data"]
    assert [each["field"] for each in answer["left_out"]] == ["data.system_metrics.cpu_usage"]
    assert "must be" in answer["left_out"][0]["message"]
    assert answer["renewed"] == [{"task_id": task_id, "epoch": 1}], "the lease does not hang on a sensor"
    assert picture.last_seen_mono_s > seen_at, "and neither does its presence"
    assert picture.metrics == {"memory_usage": 12.5}
    await a_good_device_still_gets_tasks(node)


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"system_metrics": 5}, "data.system_metrics"),
        ({"active_tasks": -1}, "data.active_tasks"),
        ({"status": "a\x07"}, "data.status"),
        ({"system_metrics": {"battery": {"level": 500, "charging": True}}}, "data.system_metrics.battery.level"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_of_a_report_only_what_is_wrong_is_left_out(node: Any, said: dict[str, Any], field: str) -> None:
    peer, _ = await device(node, "odd")
    peer.say("heartbeat", said, sender_id="odd")
    answer = (await peer.expect("heartbeat_ack"))["data"]
    assert [each["field"] for each in answer["left_out"]] == [field]
    battery = node.rooms.scheduler.devices["odd"].metrics.get("battery") or {}
    assert battery.get("level") is None and battery.get("charging") == (True if "battery" in field else None)


@pytest_twisted.ensureDeferred
async def test_what_a_device_holds_is_not_guessed_from_a_report(node: Any) -> None:
    peer, _ = await device(node, "odd")
    for text in (b'[{"task_id":"task-1","epoch":NaN}]', b'"all"'):
        peer.send(b'{"message_type":"heartbeat","sender_id":"odd","data":{"attempts":' + text + b"}}\n")
        error = (await peer.expect("error"))["data"]
        assert error["code"] == "bad_field" and error["field"].startswith("data.attempts")
    await a_good_device_still_gets_tasks(node)


@pytest_twisted.ensureDeferred
async def test_a_device_whose_clock_is_in_1970_works_as_any_other(node: Any) -> None:
    peer, _ = await device(node, "old")
    stamp = "1970-01-01T00:00:07Z"
    peer.say("heartbeat", {"timestamp": stamp, "system_metrics": {"cpu_usage": 5}}, sender_id="old", timestamp=stamp)
    await pause(0.15)
    task_id = await submit(node)
    assigned = await peer.expect("task_assign")
    assert assigned["data"]["task"]["task_id"] == task_id
    assert node.rooms.scheduler.devices["old"].last_seen_at > 1e9, "the main goes by its own clock"


@pytest_twisted.ensureDeferred
async def test_junk_in_a_registration_is_not_kept(node: Any) -> None:
    junk = "j" * 60_000
    said = REGISTER | {
        "junk": junk,
        "device_info": {"role": "worker", "junk": junk},
        "hardware_specs": HARDWARE | {
            "junk": junk,
            "disks": [{"name": "sda", "junk": junk}],
            "network_interfaces": ["eth0", {"name": "eth1", "up": True, "junk": junk}],
            "benchmark": {"integers": 1.5, "junk": [junk]},
        },
        "fences": {"layers": ["rlimits"], "junk": junk},
    }  # fmt: skip
    peer = await connect(node.worker_port)
    peer.say("register", said, sender_id="junky")
    await peer.expect("register_ack")
    kept = node.rooms.scheduler.devices["junky"].register
    assert kept["hardware_specs"] == HARDWARE | {
        "disks": [{"name": "sda"}],
        "network_interfaces": ["eth0", {"name": "eth1", "up": True}],
        "benchmark": {"integers": 1.5},
    }
    answer = await http_of(node).get("/api/v1/devices/junky")
    assert junk not in answer.text and len(answer.text) < 6000
    [[stored]] = await node.rooms.database.read(lambda db: db.execute("SELECT register FROM devices").fetchall())
    assert len(stored) < 2000
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_registration_that_says_too_much_is_refused_by_field(node: Any) -> None:
    peer = await connect(node.worker_port)
    talkative = {"task_schemas": {f"type_{number}": {"description": "x" * 3000} for number in range(200)}}
    peer.say("register", REGISTER | talkative, sender_id="talker")
    error = (await peer.expect("error"))["data"]
    assert (error["code"], error["field"]) == ("bad_field", "data.task_schemas")
    assert "131072" in error["message"]
    assert not node.rooms.scheduler.devices
    peer.say("register", REGISTER, sender_id="talker")
    await peer.expect("register_ack")
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_devices_that_never_ran_anything_are_forgotten_after_a_while(node: Any) -> None:
    devices = node.rooms.scheduler.devices
    for name in ("stranger", "worked", "trusted", "recent", "wanted", "sleeper"):
        peer, _ = await device(node, name, **({"wake_on_lan": True} if name == "sleeper" else {}))
        if name == "worked":
            task_id = await submit(node)
            await peer.expect("task_assign")
            peer.say("task_result", result(task_id), sender_id=name)
            await peer.expect("result_ack")
        peer.say("disconnect", {"reason": "bye"}, sender_id=name)
        await peer.closed
    node.rooms.cluster.scheduler.fleet.set_role(devices["trusted"], "nas", node.rooms.cluster.moment())
    here, _ = await device(node, "here")
    month_s = 31 * 86_400.0
    await submit(node, requirements={"device": "wanted"})
    for name in ("stranger", "worked", "trusted", "wanted", "sleeper", "here"):
        devices[name].last_seen_at -= month_s
    await node.rooms.cleaner.clean()
    assert sorted(devices) == ["here", "recent", "sleeper", "trusted", "wanted", "worked"]
    await node.rooms.turns.committed()
    rows = await node.rooms.database.read(lambda db: db.execute("SELECT device_id FROM devices").fetchall())
    assert ("stranger",) not in [tuple(row) for row in rows]
    await here.leave()
