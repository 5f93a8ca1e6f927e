"""Profiler, monitor, speed figure, data folder, leftovers: what is unknown is left out, never zero."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import GIB
from retirecluster.platforms.base import Platform
from retirecluster.platforms.choose import choose_platform
from retirecluster.platforms.psutil_probes import PsutilProbes, find_psutil
from retirecluster.wire.messages import MESSAGES
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.home import read_address
from retirecluster.worker.journal import STARTED, Remembered
from retirecluster.worker.leftovers import kill_leftovers
from retirecluster.worker.monitor import SystemMonitor
from retirecluster.worker.profiler import DeviceProfiler, Overrides
from retirecluster.worker.service import seconds_since_boot
from retirecluster.worker.speed import cached_benchmark
from tests.worker.runner_client import gone_within


class Closed(Platform):
    """A system that tells nothing."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in ("name", "root", "capabilities", "ways", "last_ways", "slow"):
            return super().__getattribute__(name)

        def refuse(*arguments: Any) -> Any:
            raise PermissionError(f"{name} is not for apps")

        return refuse


def here() -> Platform:
    return choose_platform(os.environ)


def test_the_profile_of_this_device_is_a_valid_register_message(tmp_path: Path) -> None:
    profiler = DeviceProfiler(here(), tmp_path, "worker")
    data = {
        "device_info": profiler.get_system_info(),
        "hardware_specs": profiler.get_hardware_specs(),
        "capabilities": profiler.detect_capabilities(),
    }
    assert not MESSAGES["register"].data.problems(data)
    assert data["hardware_specs"]["cpu_cores"] >= 1
    assert data["hardware_specs"]["memory_total"] > GIB // 8
    assert {"computational", "network_services", "storage"} <= set(data["capabilities"])


def test_what_a_system_does_not_tell_is_left_out(tmp_path: Path) -> None:
    profiler = DeviceProfiler(Closed(), tmp_path, "worker")
    assert not {"memory_total", "network_interfaces", "gpu", "cpu_model"} & profiler.get_hardware_specs().keys()
    assert "internet" not in profiler.detect_capabilities()
    found = SystemMonitor(Closed(), tmp_path, time.monotonic).read()
    assert found == {"disk_usage": found["disk_usage"], "problems": []}


def test_overrides_are_announced(tmp_path: Path) -> None:
    profiler = DeviceProfiler(here(), tmp_path, "mobile", Overrides("android", 1.5))
    assert profiler.get_system_info()["platform"] == "android"
    assert profiler.get_hardware_specs()["memory_total"] == int(1.5 * GIB)


@pytest.mark.parametrize("with_psutil", [True, False])
def test_metrics_are_valid_with_psutil_and_without(tmp_path: Path, with_psutil: bool) -> None:
    probes = PsutilProbes(find_psutil()) if with_psutil else None
    monitor = SystemMonitor(here(), tmp_path, time.monotonic, probes, time.time)
    monitor.read()
    time.sleep(0.05)
    found = monitor.read()
    assert not MESSAGES["heartbeat"].data.problems({"system_metrics": found})
    assert {"memory_usage", "disk_usage", "uptime", "load_average"} <= found.keys()
    assert DeviceProfiler(here(), tmp_path, "worker", metrics=monitor.read).get_performance_metrics()


def test_the_benchmark_is_kept_for_a_month(tmp_path: Path) -> None:
    place = tmp_path / "speed.json"
    measured = cached_benchmark(place, "3.11", 1000.0, time.monotonic)
    assert 0.001 <= measured.speed <= 1000
    assert measured.document().keys() >= {"integers", "floats", "memory_bytes_per_s"}
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"], "the benchmark of the disk left something"

    def never() -> float:
        raise AssertionError("measured again")

    assert cached_benchmark(place, "3.11", 1000.0 + 29 * 86_400, never) == measured
    for version, now in (("3.11", 1000.0 + 31 * 86_400), ("3.12", 1000.0), ("3.11", 500.0)):
        with pytest.raises(AssertionError):
            cached_benchmark(place, version, now, never)
    for damaged in ("{", '{"python_version": "3.11", "measured_at": 1000, "benchmark": {"integers": -1}}'):
        place.write_text(damaged)
        assert cached_benchmark(place, "3.11", 1000.0, time.monotonic).speed > 0
        assert json.loads(place.read_text())["python_version"] == "3.11"


def test_the_benchmark_takes_less_than_a_second_of_its_own_clock(tmp_path: Path) -> None:
    """On a clock that ticks a hundredth of a second each time it is asked, however slow the machine is."""
    ticks = iter(range(10_000))
    asked = []

    def clock() -> float:
        asked.append(next(ticks) / 100)
        return asked[-1]

    cached_benchmark(tmp_path / "speed.json", "3.11", 1000.0, clock)
    assert asked[-1] - asked[0] < 1.0


def test_a_device_id_is_made_once(tmp_path: Path) -> None:
    folder = DataFolder(str(tmp_path))
    made = folder.device_id("Änne's phone!", Random(1))
    assert made.startswith("nne-s-phone-")
    assert folder.device_id("other", Random(2)) == made
    assert DataFolder(str(tmp_path / "new")).path.name == "new"


def test_halves_of_files_go_when_the_folder_is_opened(tmp_path: Path) -> None:
    """Not later: then one of them may be the journal, which is just being written anew."""
    kept = ("journal.jsonl", "worker.json.new", "notes.tmp")
    for name in (*kept, "journal.jsonl.new", "comfort.json.new", "benchmark.tmp"):
        (tmp_path / name).write_text("x")
    folder = DataFolder(str(tmp_path))
    folder.open()
    assert {each.name for each in tmp_path.iterdir()} == {*kept, "lock"}
    folder.close()


def test_two_workers_cannot_share_a_folder(tmp_path: Path) -> None:
    first, second = DataFolder(str(tmp_path / "w")), DataFolder(str(tmp_path / "w"))
    first.open()
    with pytest.raises(ClusterError, match="another worker uses the data folder"):
        second.open()
    first.close()
    second.open()
    second.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError, match="cannot be used"):
        DataFolder(str(tmp_path / "file")).open()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("pi.local", "pi.local", 8080),
        ("10.0.0.7:9000", "10.0.0.7", 9000),
        ("[::1]:9000", "::1", 9000),
        ("[fe80::1]", "fe80::1", 8080),
        ("fe80::1", "fe80::1", 8080),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = read_address(text)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize("text", ["", ":8080", "host:", "host:x", "host:0", "host:70000", "a:1:b", "[::1]:x"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ClusterError, match="HOST or HOST:PORT"):
        read_address(text)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_of_an_earlier_life_are_killed_and_nobody_elses() -> None:
    began_s = seconds_since_boot()
    program = "import os, time\nif os.fork(): os._exit(0)\nprint(os.getpid(), flush=True)\ntime.sleep(60)"
    leader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    assert leader.stdout is not None
    orphan = int(leader.stdout.readline())
    leader.wait()
    leader.stdout.close()
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        reused = Remembered(STARTED, None, other.pid, began_s - 1000.0)
        from_before_boot = Remembered(STARTED, None, orphan, began_s + 1e6)
        assert kill_leftovers([reused, from_before_boot, Remembered(STARTED)], seconds_since_boot()) == []
        assert other.poll() is None
        assert kill_leftovers([Remembered(STARTED, None, leader.pid, began_s)], seconds_since_boot()) == [orphan]
        assert gone_within([orphan], 1.0)
    finally:
        other.kill()
        other.wait()
