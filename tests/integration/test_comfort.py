"""Owners in charge, with real processes: a worker whose battery is a file of the test's, a main, and what they do."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import RealCluster, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="a made-up /sys is read by the worker for Linux"),
]
TICKER = """
import os, sys, time
child = os.fork()
name = "child" if child == 0 else "parent"
if child == 0:
    os.setsid()
for number in range(10**6):
    print(name, number, flush=True)
    time.sleep(0.02)
"""


class Laptop:
    """A made-up device: its battery is a file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.supply = root / "sys/class/power_supply/BAT0"
        self.supply.mkdir(parents=True)
        (self.supply / "type").write_text("Battery\n")
        self.battery(80, "Discharging")

    def battery(self, level: int, status: str = "Discharging") -> None:
        (self.supply / "status").write_text(f"{status}\n")
        (self.supply / "capacity").write_text(f"{level}\n")


@pytest.fixture
def laptop(tmp_path: Path) -> Laptop:
    return Laptop(tmp_path / "laptop-root")


@pytest.fixture
def real(cluster: RealCluster) -> RealCluster:
    """A main that runs."""
    settings = {"heartbeat_interval_s": 0.5, "offline_after_s": 30, "lease_s": 30}
    (cluster.folder / "main.json").write_text(json.dumps(settings))
    start_main(cluster)
    return cluster


def start_main(cluster: RealCluster) -> None:
    cluster.start_main("--config", str(cluster.folder / "main.json"))


def start(cluster: RealCluster, name: str, laptop: Laptop | None, **policy: Any) -> None:
    settings = {"policy": policy, "monitor_interval_s": 0.1, "slots": 2}
    if laptop is not None:
        settings["system_root"] = str(laptop.root)
    config = cluster.folder / f"{name}.json"
    config.write_text(json.dumps(settings))
    cluster.start_worker(name, "--config", str(config))
    eventually(lambda: name in cluster.devices(), what=f"{name} known")


def status(cluster: RealCluster, name: str) -> tuple[str, str]:
    device = cluster.get(f"devices/{name}")
    return device["status"], device["reason"]


def is_paused(cluster: RealCluster, name: str, word: str) -> Any:
    found = status(cluster, name)
    return found if found[0] == "paused" and word in found[1] else None


def printed(cluster: RealCluster, task_id: str) -> dict[str, int]:
    """How often each process of the ticking task has printed."""
    chunks = cluster.get(f"tasks/{task_id}/output")["chunks"]
    lines = "".join(chunk["data"] for chunk in chunks).splitlines()
    return {name: sum(line.startswith(name) for line in lines) for name in ("parent", "child")}


def both_go_on(cluster: RealCluster, task_id: str) -> None:
    before = printed(cluster, task_id)
    eventually(
        lambda: all(count > before[name] + 3 for name, count in printed(cluster, task_id).items()),
        what="output of both processes",
    )


def stands_still(cluster: RealCluster, task_id: str) -> bool:
    """Nothing is printed between two looks, fifteen of its lines apart."""
    before = printed(cluster, task_id)
    time.sleep(0.3)
    return printed(cluster, task_id) == before


def test_a_low_battery_stops_the_whole_tree_and_power_lets_it_go_on(real: RealCluster, laptop: Laptop) -> None:
    battery = {"pause_below": 40, "resume_above": 60}
    start(real, "old", laptop, battery=battery, min_dwell_s=0.2, on_pause="suspend")
    (task_id,) = real.submit({"task_type": "python_script", "payload": {"source": TICKER}})
    both_go_on(real, task_id)
    laptop.battery(80, "Charging")
    laptop.battery(31)
    reason = eventually(lambda: is_paused(real, "old", "battery 31 % < 40 %"), what="paused")[1]
    assert "on battery" in reason
    eventually(lambda: stands_still(real, task_id), what="silence")
    assert real.get(f"tasks/{task_id}")["status"] == "running"
    (other,) = real.submit({"task_type": "echo", "payload": {"message": "later"}})
    why = real.get(f"tasks/{other}/why")
    assert why["devices"][0]["reasons"] == [f"paused: {reason}"]
    laptop.battery(55)  # above the one threshold, below the other
    eventually(lambda: is_paused(real, "old", "battery 55 % < 60 %"), what="still paused")
    assert stands_still(real, task_id)
    laptop.battery(56, "Charging")
    eventually(lambda: status(real, "old")[0] == "online", what="working again")
    both_go_on(real, task_id)
    assert real.ended(other)["status"] == "completed"
    assert real.request("POST", f"tasks/{task_id}/cancel", {})["status"] in ("cancelling", "cancelled")
    assert real.ended(task_id)["attempts"][0]["epoch"] == 1


def test_what_is_handed_back_runs_elsewhere_and_is_not_charged(real: RealCluster, laptop: Laptop) -> None:
    start(real, "old", laptop, only_when_charging=True, on_pause="hand_back", min_dwell_s=0.2)
    assert eventually(lambda: is_paused(real, "old", "on battery"), what="paused")
    laptop.battery(80, "Charging")
    eventually(lambda: status(real, "old")[0] == "online", what="working")
    (task_id,) = real.submit({"task_type": "python_script", "payload": {"source": TICKER}, "max_retries": 0})
    both_go_on(real, task_id)
    start(real, "other", None)
    laptop.battery(79)
    eventually(lambda: real.get(f"tasks/{task_id}")["device_id"] == "other", what="moved")
    both_go_on(real, task_id)
    task = real.get(f"tasks/{task_id}")
    assert (task["epoch"], [each["charged"] for each in task["attempts"]]) == (2, [False, False])
    assert "on battery since" in task["attempts"][0]["reason"]
    real.request("POST", f"tasks/{task_id}/cancel", {})
    real.ended(task_id)


def test_borrowed_and_quiet_devices_get_nothing_also_after_a_restart_of_the_main(real: RealCluster) -> None:
    start(real, "tv-box", None)
    rest = real.request("POST", "devices/tv-box/borrow", {"for_s": 3600, "running": "suspend", "reason": "film"})[
        "rest"
    ]
    assert rest["reason"].startswith("borrowed by its owner for 1h, until ") and rest["reason"].endswith(": film")
    assert status(real, "tv-box") == ("paused", rest["reason"])
    (task_id,) = real.submit({"task_type": "echo", "payload": {"message": "x"}})
    real.kill("main")
    start_main(real)
    eventually(lambda: status(real, "tv-box") == ("paused", rest["reason"]), what="paused after the restart")
    assert real.get(f"tasks/{task_id}")["status"] == "queued"
    quiet = real.request("POST", "cluster/quiet", {"for_s": 7200})["quiet"]
    real.request("POST", "devices/tv-box/give_back", {})
    eventually(lambda: status(real, "tv-box") == ("paused", quiet["reason"]), what="quiet")
    assert real.get("cluster/status")["quiet"]["reason"] == quiet["reason"]
    assert "QUIET: the cluster is quiet for 2h" in real.text("text/status")
    assert real.get(f"tasks/{task_id}")["status"] == "queued"
    real.request("DELETE", "cluster/quiet")
    assert real.ended(task_id)["status"] == "completed"


def test_borrowing_a_device_does_not_set_going_what_the_quiet_has_stopped(real: RealCluster) -> None:
    start(real, "w3", None)
    (task_id,) = real.submit({"task_type": "python_script", "payload": {"source": TICKER}})
    both_go_on(real, task_id)
    quiet = real.request("POST", "cluster/quiet", {"for_s": 3600, "running": "suspend"})["quiet"]
    eventually(lambda: stands_still(real, task_id), what="silence")
    eventually(lambda: real.get(f"tasks/{task_id}")["reason"] == f"suspended: {quiet['reason']}", what="its reason")
    real.request("POST", "devices/w3/borrow", {"for_s": 7200})  # with its default, `continue`, and for longer
    eventually(lambda: is_paused(real, "w3", f"{quiet['reason']}; borrowed by its owner for 2h"), what="both reasons")
    for _ in range(5):
        assert stands_still(real, task_id)
    assert real.get(f"tasks/{task_id}")["status"] == "running"
    real.request("DELETE", "cluster/quiet")
    both_go_on(real, task_id)
    assert is_paused(real, "w3", "borrowed by its owner")
    real.request("POST", f"tasks/{task_id}/cancel", {})
    real.ended(task_id)


def test_a_signal_pauses_a_device_and_its_end_lets_it_work(real: RealCluster) -> None:
    start(real, "heater", None, signals={"tariff": {"max": 0.2}}, min_dwell_s=0)
    real.request("PUT", "signals/tariff", {"value": 0.31, "ttl_s": 600})
    eventually(lambda: is_paused(real, "heater", "tariff 0.31 > 0.2"), what="paused")
    real.kill("main")
    start_main(real)
    assert [each["value"] for each in real.get("signals")["signals"]] == [0.31]
    eventually(lambda: is_paused(real, "heater", "tariff 0.31 > 0.2"), what="paused after the restart")
    real.request("PUT", "signals/tariff", {"value": 0.1, "ttl_s": 600})
    eventually(lambda: status(real, "heater")[0] == "online", what="working")


def test_the_clusters_policy_holds_where_the_owner_says_nothing(cluster: RealCluster, laptop: Laptop) -> None:
    defaults = {"policy": {"battery": {"pause_below": 90}, "on_pause": "suspend"}}
    (cluster.folder / "main.json").write_text(json.dumps(defaults))
    start_main(cluster)
    start(cluster, "follows", laptop)
    start(cluster, "decides", laptop, battery={"pause_below": 5})
    eventually(lambda: is_paused(cluster, "follows", "battery 80 % < 90 %"), what="paused")
    assert status(cluster, "decides")[0] == "online"
    assert cluster.get("devices/follows")["paused"]["running"] == "suspend"


def phone(cluster: RealCluster, laptop: Laptop, tool: str, **policy: Any) -> None:
    """A worker on what it takes for Termux, whose battery tool is a script of the test's."""
    programs = laptop.root / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "termux-battery-status").write_text(f"#!/bin/sh\n{tool}\n")
    (programs / "termux-battery-status").chmod(0o755)
    settings = {"policy": policy, "monitor_interval_s": 0.1, "slots": 2, "system_root": str(laptop.root)}
    config = cluster.folder / "phone.json"
    config.write_text(json.dumps(settings))
    environ = {"TERMUX_VERSION": "0.118", "PATH": f"{programs}:{os.environ['PATH']}"}
    cluster.start_worker("phone", "--config", str(config), environ=environ)


def test_a_phone_that_is_nearly_empty_gets_nothing_before_its_slow_tool_has_said_so(
    real: RealCluster, laptop: Laptop
) -> None:
    answer = laptop.root / "answer"
    tool = f'while [ ! -e {answer} ]; do sleep 0.05; done; echo \'{{"percentage": 5, "plugged": "UNPLUGGED"}}\''
    ids = real.submit(*[{"task_type": "echo", "payload": {"message": "hi"}} for _ in range(2)])
    phone(real, laptop, tool, battery={"pause_below": 40}, metered="deny")
    first = eventually(lambda: "phone" in real.devices() and is_paused(real, "phone", "looked at first"), what="known")
    assert "battery" in first[1] or first[1] == "its owner's policy is looked at first"
    answer.touch()
    found = eventually(lambda: is_paused(real, "phone", "battery 5 % < 40 %"), what="the battery's reason")
    assert "network: not known" in found[1]
    shown = real.get("devices/phone")
    assert shown["policy"] == ["battery: pause_below 40", "metered: deny"] and shown["policy_untold"] == ["network"]
    assert [real.get(f"tasks/{each}")["attempts"] for each in ids] == [[], []], "nothing was ever given"


def test_a_worker_that_was_killed_stays_below_its_threshold(real: RealCluster, laptop: Laptop) -> None:
    policy: dict[str, Any] = {"battery": {"pause_below": 40, "resume_above": 60}, "min_dwell_s": 0.2}
    laptop.battery(31)
    start(real, "old", laptop, **policy)
    eventually(lambda: is_paused(real, "old", "battery 31 % < 40 %"), what="paused")
    real.kill("old")
    laptop.battery(50)
    start(real, "old", laptop, **policy)
    eventually(lambda: is_paused(real, "old", "battery 50 % < 60 %"), what="paused as before")
    laptop.battery(61)
    eventually(lambda: status(real, "old")[0] == "online", what="working")


def test_a_share_from_the_cluster_changes_what_is_offered_and_not_what_there_is(
    cluster: RealCluster, laptop: Laptop
) -> None:
    had = len(os.sched_getaffinity(0))
    if had < 2:
        pytest.skip("there is one processor only")
    (cluster.folder / "main.json").write_text(json.dumps({"policy": {"max_cpu_share": 0.01}}))
    start_main(cluster)
    cluster.start_worker("small")
    eventually(lambda: "small" in cluster.devices() and cluster.get("devices/small")["slots"] == 1, what="one slot")
    shown = cluster.get("devices/small")
    assert shown["cpu_cores"] == 1 and shown["profile"]["cpu_cores"]["value"] == had
    assert shown["session_no"] == 2, "it said so once"
    cluster.kill("small")
    cluster.start_worker("small")
    eventually(lambda: cluster.get("devices/small")["session_no"] == 3, what="the next life")
    eventually(lambda: status(cluster, "small")[0] == "online", what="there")
    shown = cluster.get("devices/small")
    assert (shown["slots"], shown["session_no"], shown["profile"]["cpu_cores"]["value"]) == (1, 3, had)
