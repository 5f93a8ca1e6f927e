"""Each platform over a made-up /proc and /sys."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from retirecluster.platforms.android import Android, battery_status
from retirecluster.platforms.base import Platform
from retirecluster.platforms.choose import choose_platform
from retirecluster.platforms.linux import Linux
from retirecluster.platforms.macos import MacOS
from retirecluster.platforms.raspberry_pi import RaspberryPi, throttling
from retirecluster.platforms.windows import Windows
from tests.worker.runner_client import gone_within

FILES = {
    "proc/meminfo": "MemTotal:       4000000 kB\nMemFree: 100 kB\nMemAvailable:   1000000 kB\n",
    "proc/stat": "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n",
    "proc/uptime": "86400.50 100.00\n",
    "proc/cpuinfo": "processor : 0\nmodel name : Old Faithful\n",
    "proc/diskstats": (
        "8 0 sda 10 0 100 0 5 0 50 0 0 0 0\n8 1 sda1 10 0 100 0 5 0 50 0 0 0 0\n7 0 loop0 9 0 9 0 9 0 9 0\n"
    ),
    "sys/block/sda/size": "1",
    "sys/block/loop0/size": "1",
    "proc/net/dev": "a\nb\n    lo: 5 0 0 0 0 0 0 0 5 0\n  eth0: 1000 0 0 0 0 0 0 0 200 0\n",
    "proc/net/route": (
        "Iface Destination Gateway Flags RefCnt Use Metric Mask\neth0 00000000 0101A8C0 0003 0 0 0 00000000\n"
    ),
    "sys/class/thermal/thermal_zone0/temp": "41000\n",
    "sys/class/thermal/thermal_zone1/temp": "55250\n",
    "sys/class/thermal/thermal_zone2/temp": "broken\n",
    "sys/class/power_supply/AC/type": "Mains\n",
    "sys/class/power_supply/BAT0/type": "Battery\n",
    "sys/class/power_supply/BAT0/capacity": "83\n",
    "sys/class/power_supply/BAT0/status": "Discharging\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return tmp_path


def test_linux_reads_what_the_kernel_tells(root: Path) -> None:
    linux = Linux(root)
    assert linux.memory_total() == 4_000_000 * 1024
    assert linux.memory_usage() == 75.0
    ticks = os.sysconf("SC_CLK_TCK")
    assert linux.cpu_times() == (200 / ticks, 1000 / ticks)
    assert linux.uptime_s() == 86400.5
    assert linux.temperature_c() == 55.2
    assert linux.battery() == {"level": 83, "charging": False}
    assert linux.disk_io() == {"read_bytes": 51200, "write_bytes": 25600}
    assert linux.network_io() == {"received_bytes": 1000, "sent_bytes": 200}
    assert linux.has_default_route() is True
    assert linux.cpu_model() == "Old Faithful"


def test_no_default_route(root: Path) -> None:
    (root / "proc/net/route").write_text("header\neth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF\n")
    assert Linux(root).has_default_route() is False
    zeros = "0" * 32
    (root / "proc/net/ipv6_route").write_text(f"{zeros} 00 {zeros} 00 {zeros} 00000400 0 0 00000001 eth0\n")
    assert Linux(root).has_default_route() is True


def test_nothing_there_is_nothing_known(tmp_path: Path) -> None:
    linux = Linux(tmp_path)
    assert linux.temperature_c() is None
    assert linux.battery() is None
    with pytest.raises(OSError):
        linux.memory_total()


def test_the_flags_of_a_raspberry_pi() -> None:
    both = ["under_voltage", "throttled"]
    assert throttling("throttled=0x50005\n") == {"now": both, "since_boot": both}
    assert throttling("throttled=0x0") == {"now": [], "since_boot": []}


def test_a_raspberry_pi_is_found_and_is_a_linux(root: Path) -> None:
    (root / "proc/device-tree").mkdir()
    (root / "proc/device-tree/model").write_bytes(b"Raspberry Pi 3 Model B Plus Rev 1.3\0")
    pi = choose_platform({}, "linux", root)
    assert isinstance(pi, RaspberryPi) and pi.name == "linux"
    assert pi.capabilities() == ["raspberry_pi"]
    assert (pi.board_model(), pi.cpu_model()) == ("Raspberry Pi 3 Model B Plus Rev 1.3", "Old Faithful")


@pytest.mark.parametrize(
    ("system", "environ", "kind"),
    [
        ("linux", {}, Linux),
        ("android", {}, Android),
        ("linux", {"ANDROID_ROOT": "/system"}, Android),
        ("darwin", {}, MacOS),
        ("win32", {}, Windows),
        ("freebsd14", {}, Platform),
    ],
)
def test_choosing(tmp_path: Path, system: str, environ: dict[str, str], kind: type[Platform]) -> None:
    assert type(choose_platform(environ, system, tmp_path)) is kind


def tool(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "termux-battery-status"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_battery_of_a_phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = '{"health": "GOOD", "percentage": 61, "plugged": "UNPLUGGED", "temperature": 28.39}'
    tool(tmp_path, f"echo '{said}'", monkeypatch)
    assert Android(tmp_path).battery() == {"level": 61, "charging": False, "health": "good", "temperature_c": 28.4}
    assert battery_status('{"percentage": 5, "plugged": "PLUGGED_AC"}') == {"level": 5, "charging": True}


def test_a_battery_tool_that_hangs_leaves_nothing_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the real one: a script that waits for a program of its own, which must not stay behind."""
    monkeypatch.setattr("retirecluster.platforms.android.BATTERY_WITHIN_S", 2.0)
    tool(tmp_path, f"sleep 300 & echo $! > {tmp_path}/child; wait", monkeypatch)
    phone = Android(tmp_path)
    with pytest.raises(TimeoutError, match="Termux:API"):
        phone.battery()
    child = int((tmp_path / "child").read_text())
    assert gone_within([child], 10.0)
    tool(tmp_path, """echo '{"percentage": 20}'""", monkeypatch)
    assert phone.battery() == {"level": 20}


def test_a_program_that_does_not_answer_is_asked_once_for_all_facts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def hangs(program: str, *_: str) -> str:
        asked.append(program)
        raise TimeoutError(f"{program} did not answer")

    monkeypatch.setattr("retirecluster.platforms.android.answer_of", hangs)
    phone = Android(tmp_path)
    for name in ("ro.product.model", "ro.soc.model", "ro.build.version.release"):
        with pytest.raises((OSError, KeyError)):
            phone.property(name)
    assert asked == ["getprop"]


def test_slots() -> None:
    assert [Android().default_slots(cpus) for cpus in (1, 2, 8, 64)] == [1, 1, 4, 8]
    assert [Linux().default_slots(cpus) for cpus in (1, 4)] == [1, 4]


def test_variables_that_programs_need_on_android() -> None:
    environ = {"PREFIX": "/data/usr", "SECRET": "x", "ANDROID_ROOT": "/system"}
    assert Android().task_environment(environ) == {"PREFIX": "/data/usr", "ANDROID_ROOT": "/system"}
