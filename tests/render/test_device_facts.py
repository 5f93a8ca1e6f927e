"""`devices show`: sizes, rates, durations, lists and yes or no as people write them, and nothing as a program does."""

from __future__ import annotations

import re
from typing import Any

import pytest

from retirecluster.domain.devices import SYSTEM_METRICS
from retirecluster.domain.units import format_bytes
from retirecluster.render.device_facts import fact_words, metric_pair
from retirecluster.render.documents import device_pairs

FACTS: dict[str, Any] = {
    "cpu_model": "4x Cortex-A72",
    "cpu_cores": 8,
    "disks": [
        {"name": "sda", "total_bytes": 274877906944, "type": "ssd", "model": "Samsung 860", "removable": False},
        {"name": "mmcblk0", "total_bytes": 31914983424, "type": "flash", "file_system": "ext4", "removable": True},
    ],
    "network_interfaces": [
        {"name": "wlan0", "type": "wifi", "addresses": ["192.168.1.7", "fe80::1"], "up": True,
         "mac": "00:11:22:aa:bb:cc"},
        {"name": "eth0", "up": False},
        "lo",
    ],
    "benchmark": {"integers": 1.23456, "floats": 0.9, "memory_bytes_per_s": 5953671254, "disk_bytes_per_s": None},
    "gpu": False,
}  # fmt: skip
METRICS: dict[str, Any] = {
    "cpu_usage": 12.0,
    "disk_usage": 71.3,
    "load_average": [0.521, 0.4, 0.12],
    "temperature": 61.27,
    "battery": {"level": 31.0, "charging": False, "health": "good", "temperature_c": 28.4, "wear_percent": 12.0},
    "disk_io": {"read_bytes": 10149319680, "write_bytes": 5, "read_bytes_per_s": 1258291.2, "write_bytes_per_s": 0.0},
    "network": {"received_bytes": 5368709120, "sent_bytes": 1048576},
    "throttling": {"now": ["under-voltage"], "since_boot": []},
    "owner_away_s": 37536.7,
    "metered": True,
    "problems": ["low disk: 200 MiB free", "no clock"],
}


def shown() -> dict[str, list[str]]:
    profile = {name: {"value": value, "source": "somewhere"} for name, value in FACTS.items()}
    found: dict[str, list[str]] = {}
    for name, text in device_pairs({"device_id": "pi", "status": "online", "profile": profile, "metrics": METRICS}):
        found.setdefault(name, []).append(text.removesuffix("  [somewhere]"))
    return found


def test_a_device_is_shown_as_people_write() -> None:
    found = shown()
    assert found["disks"] == ["sda: 256 GiB ssd, Samsung 860", "mmcblk0: 29.7 GiB flash, ext4, removable"]
    assert found["network interfaces"] == [
        "wlan0: wifi, up, 192.168.1.7 fe80::1, 00:11:22:aa:bb:cc",
        "eth0: down",
        "lo",
    ]
    assert found["benchmark"] == ["integers 1.235, floats 0.9, memory 5.54 GiB/s"]
    assert found["gpu"] == ["no"] and found["cpu cores"] == ["8"] and found["model"] == ["unknown"]
    assert found["disk"] == ["71%"] and found["temperature"] == ["61 °C"]
    assert found["load average"] == ["0.52, 0.40, 0.12"]
    assert found["battery"] == ["31%, on battery, health good, 28 °C, wear 12%"]
    assert found["disk io"] == ["reads 1.2 MiB/s, writes 0 B/s"], "a rate, and no count since it started"
    assert found["network"] == ["receives 5 GiB, sends 1 MiB since it started"], "until a rate is known"
    assert found["throttling"] == ["now under-voltage"]
    assert found["owner away"] == ["10h25m"] and found["metered"] == ["yes"]
    assert found["problems"] == ["low disk: 200 MiB free; no clock"]


def test_nothing_is_shown_as_a_program_writes_it() -> None:
    text = "\n".join(each for values in shown().values() for each in values)
    assert not re.search(r"\d{6,}|[\[\]{}']|True|False|None|_", text.replace("mmcblk0", ""))


@pytest.mark.parametrize("name", sorted(SYSTEM_METRICS.by_name))
def test_every_metric_has_a_title_without_its_unit(name: str) -> None:
    title, _ = metric_pair(name, METRICS.get(name, 5.0))
    assert "_" not in title and not title.endswith((" s", " bytes"))


def test_what_is_not_known_yet_follows_the_unit_in_its_name() -> None:
    assert metric_pair("swap_bytes", 3 * 2**20) == ("swap", "3 MiB")
    assert metric_pair("frames_per_s", 12.345) == ("frames", "12.3/s")
    assert metric_pair("idle_s", 90) == ("idle", "1m30s")
    assert fact_words("radios", ["lora", "zigbee"]) == "lora, zigbee"
    assert metric_pair("battery", 55) == ("battery", "55%")


def test_a_thousand_bytes_are_no_power_of_ten() -> None:
    assert [format_bytes(count) for count in (999, 1000, 1023, 1023 * 1024)] == [
        "999 B", "0.977 KiB", "0.999 KiB", "0.999 MiB",
    ]  # fmt: skip


def test_the_policy_of_a_device_is_shown_and_what_it_cannot_tell() -> None:
    followed = ["battery: pause_below 40", "metered: deny"]
    device = {"device_id": "phone", "policy": followed, "policy_untold": ["network"]}
    pairs = device_pairs(device)
    assert [text for name, text in pairs if name == "policy"] == followed
    assert ("rules that cannot be told here", "network") in pairs
    assert "rules that cannot be told here" not in dict(device_pairs({"device_id": "pi", "policy_untold": []}))
