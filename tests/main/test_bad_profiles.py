"""Devices that say nonsense of themselves: refused by the name of the field, or harmless; placement goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_twisted

from tests.main.test_bad_claims import HARDWARE, REGISTER, device, submit
from tests.support import connect, pause

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


@pytest.mark.parametrize("load", ["NaN", "1e999", "-5", "1e9"])
@pytest_twisted.ensureDeferred
async def test_nonsense_in_a_report_is_refused_and_placement_goes_on(node: Any, load: str) -> None:
    peer, _ = await device(node, "odd")
    said = json.dumps({"message_type": "heartbeat", "sender_id": "odd", "data": {"system_metrics": {"cpu_usage": 7}}})
    peer.send(said.replace("7", load).encode() + b"\n")
    error = (await peer.expect("error"))["data"]
    assert error["code"] in ("bad_field", "bad_number", "bad_json")
    assert "cpu_usage" not in node.rooms.scheduler.devices["odd"].metrics
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
