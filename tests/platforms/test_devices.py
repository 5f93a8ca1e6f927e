"""Whole devices over made-up trees: the profile with its sources, and the metrics, of seven kinds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from retirecluster.platforms.android import Android
from retirecluster.platforms.base import Platform
from retirecluster.platforms.choose import choose_platform
from retirecluster.platforms.macos import MacOS
from retirecluster.platforms.psutil_probes import PsutilProbes
from retirecluster.platforms.raspberry_pi import RaspberryPi
from retirecluster.platforms.windows import Windows
from retirecluster.wire.messages import MESSAGES
from retirecluster.worker import tools
from retirecluster.worker.monitor import SLOW_EVERY_S, SystemMonitor
from retirecluster.worker.profiler import DeviceProfiler
from tests.platforms import devices

NOW = 1_800_000_000.0


class Looked:
    """A device as a worker on it would tell of it: facts, their sources, and metrics."""

    def __init__(self, platform: Platform, folder: Path, psutil: Any = None) -> None:
        probes = None if psutil is None else PsutilProbes(psutil)
        self.platform = platform
        self.profiler = DeviceProfiler(platform, folder, None, psutil=probes)
        info, specs = self.profiler.get_system_info(), self.profiler.get_hardware_specs()
        register = {"device_info": info, "hardware_specs": specs, "capabilities": self.profiler.detect_capabilities(),
                    "tools": self.profiler.tools(), "sources": self.profiler.sources()}  # fmt: skip
        assert not MESSAGES["register"].data.problems(register)
        self.facts = {**info, **specs}
        self.sources = self.profiler.sources()
        assert self.facts.keys() == self.sources.keys(), "each fact has its source, and each source a fact"
        self.clock = 100.0
        self.monitor = SystemMonitor(
            platform, folder, lambda: self.clock, probes, lambda: NOW, in_background=lambda work: work()
        )
        self.monitor.read()
        self.clock += SLOW_EVERY_S
        self.metrics = self.monitor.read()
        assert not MESSAGES["heartbeat"].data.problems({"system_metrics": self.metrics})

    def fact(self, name: str) -> tuple[Any, str | None]:
        return self.facts.get(name), self.sources.get(name)


@pytest.fixture
def use_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the device's own programs are found, and the shell's."""
    monkeypatch.setenv("PATH", devices.path_with(tmp_path))


def test_a_pixel_on_termux(tmp_path: Path, use_programs: None) -> None:
    devices.pixel(tmp_path)
    phone = Looked(choose_platform({"TERMUX_VERSION": "0.118"}, "linux", tmp_path), tmp_path)
    assert isinstance(phone.platform, Android)
    assert phone.fact("model") == ("Google Pixel 4", "getprop")
    assert phone.fact("os_name") == ("Android 13", "getprop")
    assert phone.fact("role") == ("mobile", "guessed: the platform")
    assert phone.fact("cpu_model") == ("4x Kryo 485 Silver + 4x Kryo 485 Gold", "/proc/cpuinfo")
    assert phone.fact("memory_total") == (5_600_000 * 1024, "/proc/meminfo")
    assert {"termux_api", "mobile_specific"} <= set(phone.profiler.detect_capabilities())
    assert "internet" not in phone.profiler.detect_capabilities()
    assert phone.metrics["battery"] == {"level": 63, "charging": False, "health": "good", "temperature_c": 31.2}
    assert phone.metrics["temperature"] == 38.4
    assert not {"cpu_usage", "uptime", "disk_io", "network", "throttling", "metered"} & phone.metrics.keys()
    assert "owner_away_s" not in phone.metrics, "since when the screen has been dark was not seen"


def test_the_screen_of_a_phone_tells_of_its_owner(tmp_path: Path) -> None:
    phone = Android(devices.pixel(tmp_path))
    light = tmp_path / "sys/class/leds/lcd-backlight/brightness"
    assert phone.owner_away_s(900.0) is None and phone.owner_away_s(950.0) is None
    light.write_text("120\n")
    assert phone.owner_away_s(1000.0) == 0.0
    light.write_text("0\n")
    assert phone.owner_away_s(1600.0) == 600.0
    assert phone.owner_away_s(500.0) == 0.0, "a clock that was set back"


def test_a_battery_tool_that_hangs_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real thread: the metrics come at once, and the level once the tool has said it."""
    devices.pixel(tmp_path)
    release = tmp_path / "release"
    devices.program(
        tmp_path / devices.PROGRAMS,
        "termux-battery-status",
        f'while [ ! -e {release} ]; do sleep 0.02; done; echo \'{{"percentage": 50, "plugged": "PLUGGED_AC"}}\'',
    )
    monkeypatch.setenv("PATH", devices.path_with(tmp_path))
    monitor = SystemMonitor(Android(tmp_path), tmp_path, time.monotonic)
    assert "battery" not in monitor.read()
    assert "battery" not in monitor.read(), "asked once, and not waited for"
    release.touch()
    end = time.monotonic() + 20
    while "battery" not in (found := monitor.read()):
        assert time.monotonic() < end
        time.sleep(0.02)
    assert found["battery"] == {"level": 50, "charging": True}


def test_a_raspberry_pi_4(tmp_path: Path, use_programs: None) -> None:
    devices.pi_4(tmp_path)
    pi = Looked(choose_platform({}, "linux", tmp_path), tmp_path)
    assert isinstance(pi.platform, RaspberryPi)
    assert pi.fact("model") == ("Raspberry Pi 4 Model B Rev 1.4", "/proc/device-tree")
    assert pi.fact("os_name") == ("Debian GNU/Linux 12 (bookworm)", "/etc/os-release")
    assert pi.fact("cpu_model") == ("4x Cortex-A72", "/proc/cpuinfo")
    assert pi.fact("cpu_physical_cores") == (4, "/sys/devices/system/cpu")
    assert pi.fact("disks") == ([{"name": "mmcblk0", "total_bytes": 62_333_952 * 512, "type": "flash"}], "/sys/block")
    assert pi.fact("graphics") == (["vc4-drm"], "/sys/class/drm")
    assert pi.fact("gpu") == (None, None), "nothing that tasks can compute on"
    assert pi.fact("role") == ("worker", "guessed: nothing stands out")
    assert pi.facts["network_interfaces"] == [
        {"name": "docker0", "type": "virtual", "mac": "02:42:ac:11:00:02", "up": True},
        {"name": "eth0", "type": "ethernet", "mac": "dc:a6:32:00:00:01", "up": True,
         "addresses": ["fe80::ba27:ebff:fe12:3456"]},
        {"name": "wlan0", "type": "wifi", "mac": "dc:a6:32:00:00:02", "up": False},
    ]  # fmt: skip
    assert pi.metrics["throttling"] == {"now": ["under_voltage"], "since_boot": ["under_voltage", "throttled"]}
    assert pi.metrics["temperature"] == 61.3
    assert pi.metrics["metered"] is False
    assert pi.metrics["disk_io"] == {
        "read_bytes": 1_024_000, "write_bytes": 2_048_000, "read_bytes_per_s": 0.0, "write_bytes_per_s": 0.0
    }  # fmt: skip
    assert "battery" not in pi.metrics and "owner_away_s" not in pi.metrics


def test_rates_are_since_the_same_readers_last_reading(tmp_path: Path) -> None:
    devices.pi_4(tmp_path)
    now = [100.0]
    monitor = SystemMonitor(RaspberryPi(tmp_path), tmp_path, lambda: now[0])
    monitor.read("heartbeat")
    for received, step in ((1500, 10.0), (2000, 10.0)):
        now[0] += step
        rows = f" eth0: {received} 0 0 0 0 0 0 0 300 0\n wlan0: 5 0 0 0 0 0 0 0 5 0\n"
        (tmp_path / "proc/net/dev").write_text(devices.NET_DEV.format(rows=rows))
        (tmp_path / "proc/stat").write_text(devices.STAT.format(busy=1000 + received, idle=9000 + received))
        policy = monitor.read("policy")
    assert policy["network"]["received_bytes_per_s"] == 50.0
    found = monitor.read("heartbeat")
    assert found["network"]["received_bytes_per_s"] == 50.0 and found["cpu_usage"] == 50.0
    (tmp_path / "proc/net/dev").write_text(devices.NET_DEV.format(rows=" eth0: 1 0 0 0 0 0 0 0 1 0\n"))
    now[0] += 10
    assert monitor.read("heartbeat")["network"]["received_bytes_per_s"] == 0.0, "counters that began anew"


def test_a_pi_zero(tmp_path: Path, use_programs: None) -> None:
    devices.pi_zero(tmp_path)
    pi = Looked(choose_platform({}, "linux", tmp_path), tmp_path)
    assert pi.fact("cpu_model") == ("ARM1176", "/proc/cpuinfo")
    assert pi.fact("cpu_physical_cores") == (None, None)
    assert pi.facts["memory_total"] == 442_000 * 1024
    assert [each["name"] for each in pi.facts["network_interfaces"]] == ["wlan0"]
    assert not {"throttling", "metered", "battery"} & pi.metrics.keys(), "no vcgencmd, no NetworkManager"
    assert pi.metrics["temperature"] == 45.0


def test_cables_without_a_way_out_are_not_metered(tmp_path: Path, use_programs: None) -> None:
    devices.pi_4(tmp_path)
    (tmp_path / "proc/net/route").write_text(devices.ROUTE.partition("\n")[0] + "\n")
    pi = choose_platform({}, "linux", tmp_path)
    assert pi.way_out() is None and pi.metered() is False
    (tmp_path / "sys/class/net/wlan0/operstate").write_text("up\n")
    assert pi.metered() is None, "a wireless network may be anybody's"


def test_an_old_laptop_on_its_battery(tmp_path: Path, use_programs: None) -> None:
    devices.old_laptop(tmp_path)
    os.utime(tmp_path / "dev/pts/0", (NOW - 90, NOW - 90))
    laptop = Looked(choose_platform({}, "linux", tmp_path), tmp_path)
    assert laptop.fact("model") == ("LENOVO 2537AB1", "/sys/class/dmi")
    assert laptop.fact("cpu_physical_cores") == (2, "/sys/devices/system/cpu")
    assert laptop.fact("graphics") == (["Intel i915"], "/sys/class/drm")
    assert laptop.facts["disks"] == [
        {"name": "sda", "total_bytes": 488_397_168 * 512, "type": "hdd", "model": "HITACHI HTS72502"}
    ]
    assert {each["name"]: each["type"] for each in laptop.facts["network_interfaces"]} == {
        "wlp2s0": "wifi", "enp0s25": "ethernet"
    }  # fmt: skip
    assert laptop.metrics["battery"] == {"level": 42, "charging": False, "wear_percent": 50.0}
    assert laptop.metrics["owner_away_s"] == 90.0, "the greeter is nobody"
    assert laptop.metrics["uptime"] == 4000.0


def test_who_is_there_by_sessions(tmp_path: Path) -> None:
    devices.old_laptop(tmp_path)
    laptop = choose_platform({}, "linux", tmp_path)
    session = tmp_path / "run/systemd/sessions/4"
    session.write_text("CLASS=user\nSTATE=active\nTYPE=wayland\nTTY=tty2\n")
    assert laptop.owner_away_s(NOW) is None, "what a graphical session does is not known"
    session.write_text("CLASS=user-early\nSTATE=active\nTYPE=tty\nTTY=pts/0\n")
    os.utime(tmp_path / "dev/pts/0", (NOW - 5, NOW - 5))
    assert laptop.owner_away_s(NOW) == 5.0, "the administrator of a system that is just starting"
    session.write_text("CLASS=user\nSTATE=active\nREMOTE=1\nTYPE=tty\n")
    assert laptop.owner_away_s(NOW) == 4000.0, "nobody since the start"


@pytest.mark.parametrize("size", [384, 400])
def test_who_is_there_by_utmp(tmp_path: Path, size: int) -> None:
    def record(kind: int, line: bytes) -> bytes:
        return (kind.to_bytes(2, "little") + b"\0\0" + (4711).to_bytes(4, "little") + line).ljust(size, b"\0")

    devices.plant(tmp_path, {"run/utmp": record(2, b"~") + record(7, b"tty1") + record(8, b"pts/3"), "dev/tty1": ""})
    os.utime(tmp_path / "dev/tty1", (NOW - 7, NOW - 7))
    assert choose_platform({}, "linux", tmp_path).owner_away_s(NOW) == 7.0


def test_two_batteries_are_one(tmp_path: Path, use_programs: None) -> None:
    """By what each holds when full; one that is used up tells that there is no power."""
    laptop = Looked(choose_platform({}, "linux", devices.laptop_with_two_batteries(tmp_path)), tmp_path)
    assert laptop.metrics["battery"] == {
        "level": 50, "charging": False, "health": "overheat", "temperature_c": 43.1, "wear_percent": 50.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("statuses", "socket", "charging"),
    [
        (("Unknown",), "0", False),
        (("Unknown",), "1", True),
        (("Unknown",), None, None),
        (("Full",), None, True),
        (("Full", "Discharging"), "1", False),
        (("Not charging", "Unknown"), "0", False),
        (("Charging", "Not charging"), "0", True),
    ],
)
def test_whether_it_has_power(
    tmp_path: Path, statuses: tuple[str, ...], socket: str | None, charging: bool | None
) -> None:
    base = "sys/class/power_supply"
    for number, status in enumerate(statuses):
        devices.plant(tmp_path, {f"{base}/BAT{number}/{name}": text for name, text in
                                 (("type", "Battery"), ("capacity", "50"), ("status", status))})  # fmt: skip
    if socket is not None:
        devices.plant(tmp_path, {f"{base}/ucsi1/type": "USB\n", f"{base}/ucsi1/online": socket})
    found = choose_platform({}, "linux", tmp_path).battery()
    assert found == {"level": 50} | ({} if charging is None else {"charging": charging})


def test_nothing_counts_twice(tmp_path: Path, use_programs: None) -> None:
    box = Looked(choose_platform({}, "linux", devices.server(tmp_path)), tmp_path)
    assert [each["name"] for each in box.facts["disks"]] == ["sda", "sdb", "sdc", "sdd"]
    assert box.metrics["network"]["received_bytes"] == 1000 and box.metrics["network"]["sent_bytes"] == 100
    assert box.metrics["temperature"] == 93.0, "the processor's own sensor, and no input that hangs in the air"
    (tmp_path / "proc/net/dev").write_text(devices.NET_DEV.format(rows=" veth7: 9 0 0 0 0 0 0 0 9 0\n"))
    assert box.platform.network_io() == {"received_bytes": 9, "sent_bytes": 9}, "a container has nothing else"


def test_two_readers_do_not_take_each_others_processor_time(tmp_path: Path) -> None:
    """Both are asked from the same threads, now the one and now the other, on a system that is fully busy."""
    monitor = SystemMonitor(
        Windows(tmp_path), tmp_path, lambda: 1.0, PsutilProbes(devices.FakePsutil(cpu_times=devices.cpu_times(2.0, 0)))
    )
    assert [monitor.read(each)["cpu_usage"] for each in ("policy", "heartbeat", "policy", "policy")] == [100.0] * 4


def test_a_probe_that_hangs_is_asked_ever_more_rarely_and_believed_when_it_answers(tmp_path: Path) -> None:
    now, asked, well = [0.0], list[float](), [False]

    class Phone(Android):
        def battery(self) -> dict[str, Any] | None:
            asked.append(now[0])
            if not well[0]:
                raise TimeoutError("does not answer")
            return {"level": 20, "charging": False}

    monitor = SystemMonitor(Phone(tmp_path), tmp_path, lambda: now[0], in_background=lambda work: work())

    def minutes(count: int) -> list[float]:
        asked.clear()
        began = now[0]
        for _ in range(6 * count):
            monitor.read()
            now[0] += 10.0
        return [(each - began) / 60 for each in asked]

    assert minutes(120) == [0, 1, 3, 7, 15, 31, 61, 91]
    well[0] = True
    assert minutes(5) == [1, 2, 3, 4]
    assert monitor.read()["battery"] == {"level": 20, "charging": False}
    well[0] = False
    minutes(9)
    assert monitor.read()["battery"] == {"level": 20, "charging": False}, "what it said last counts for a while"
    minutes(3)
    assert "battery" not in monitor.read()


def test_the_firmware_is_asked_for_heat_only_where_no_sensor_tells(tmp_path: Path, use_programs: None) -> None:
    devices.pi_4(tmp_path)
    place = tmp_path / devices.PROGRAMS
    devices.program(place, "vcgencmd", f'echo "$1" >> {tmp_path}/asked; echo "temp=48.9\'C"')
    pi = RaspberryPi(tmp_path)
    later: list[Any] = []
    monitor = SystemMonitor(pi, tmp_path, lambda: 100.0, in_background=later.append)
    monitor.read()
    assert len(later) == 3 and monitor.pending() == {"metered", "owner", "throttling"}
    (tmp_path / "sys/class/thermal/thermal_zone0/temp").unlink()
    assert "temperature" not in monitor.read() and not (tmp_path / "asked").exists(), "no reading waits for a program"
    assert "firmware_temperature" in monitor.pending()
    for work in later:
        work()
    assert monitor.read()["temperature"] == 48.9 and not monitor.pending()


def test_a_nas_without_sensors(tmp_path: Path, use_programs: None) -> None:
    devices.nas(tmp_path)
    box = Looked(choose_platform({}, "linux", tmp_path), tmp_path)
    assert box.fact("role") == ("nas", "guessed: the name of its system")
    (tmp_path / "etc/os-release").write_text("PRETTY_NAME='Debian'\n")
    assert Looked(box.platform, tmp_path).fact("role") == ("nas", "guessed: 4 big disks")
    assert [each["name"] for each in box.facts["disks"]] == ["sda", "sdb", "sdc", "sdd"]
    assert box.fact("model") == (None, None), "what makers leave in the firmware is no model"
    assert not {"temperature", "battery", "throttling"} & box.metrics.keys()


def test_a_pc_with_windows(tmp_path: Path) -> None:
    pc = Looked(Windows(tmp_path), tmp_path, devices.windows_psutil())
    assert pc.fact("memory_total") == (16 * 2**30, "psutil")
    assert pc.fact("cpu_physical_cores") == (6, "psutil")
    assert pc.facts["disks"] == [{"name": "C:\\", "total_bytes": 512 * 10**9, "file_system": "NTFS"}]
    assert pc.facts["network_interfaces"] == [
        {"name": "Ethernet", "type": "ethernet", "mac": "9c:5c:8e:00:00:07", "addresses": ["192.168.1.20"], "up": True},
        {"name": "Wi-Fi", "type": "wifi", "mac": "9c:5c:8e:00:00:08", "up": False},
        {"name": "vEthernet (WSL)", "type": "virtual", "addresses": ["172.20.0.1"]},
    ]
    assert pc.metrics["uptime"] == NOW - 1_790_000_000
    assert pc.metrics["network"]["received_bytes"] == 100
    assert pc.metrics["cpu_usage"] == 12.5 and "battery" not in pc.metrics


def test_a_mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / devices.PROGRAMS
    devices.program(programs, "sysctl", 'case "$2" in hw.model) echo MacBookAir10,1;; *) echo Apple M1;; esac')
    devices.program(programs, "ioreg", "echo '    |   \"HIDIdleTime\" = 42000000000'")
    monkeypatch.setenv("PATH", devices.path_with(tmp_path))
    mac = Looked(MacOS(tmp_path), tmp_path, devices.mac_psutil())
    assert mac.fact("model") == ("MacBookAir10,1", "sysctl")
    assert mac.fact("cpu_model") == ("Apple M1", "sysctl")
    assert mac.fact("memory_total")[1] == "sysconf"
    assert mac.facts["disks"] == [{"name": "/dev/disk3s1s1", "total_bytes": 494 * 10**9, "file_system": "apfs"}]
    assert mac.metrics["battery"] == {"level": 97.0, "charging": True}
    assert mac.metrics["owner_away_s"] == 42.0


# Probes that fail

MAKERS = {
    "pixel": (devices.pixel, {"TERMUX_VERSION": "1"}),
    "pi_4": (devices.pi_4, {}),
    "old_laptop": (devices.old_laptop, {}),
}


@pytest.mark.parametrize("name", sorted(MAKERS))
@pytest.mark.parametrize("error", [PermissionError("closed"), ValueError("odd"), RuntimeError("a bug in a library")])
def test_any_single_probe_may_fail(tmp_path: Path, use_programs: None, name: str, error: Exception) -> None:
    make, environ = MAKERS[name]
    make(tmp_path)
    whole = Looked(choose_platform(environ, "linux", tmp_path), tmp_path)
    probes = [each for each in dir(Platform) if not each.startswith("_") and callable(getattr(Platform, each))]
    for probe in probes:
        if probe in ("ways", "last_ways", "task_environment", "default_slots"):
            continue
        platform = choose_platform(environ, "linux", tmp_path)

        def fails(*arguments: Any) -> Any:
            raise error

        setattr(platform, probe, fails)
        if probe == "read":
            continue  # the way to all files, and no probe
        broken = Looked(platform, tmp_path)
        lost = (whole.facts.keys() - broken.facts.keys()) | (whole.metrics.keys() - broken.metrics.keys())
        assert len(lost) <= 1, (probe, lost)


def test_what_makes_no_sense_is_not_announced(tmp_path: Path) -> None:
    devices.pi_4(tmp_path)

    class Mad(RaspberryPi):
        def physical_cores(self) -> int | None:
            return 10**9

        def memory_total(self) -> int | None:
            return -5

        def board_model(self) -> str | None:
            return "Evil\x1b[31m\nPi " + "x" * 1000

        def temperature_c(self) -> float | None:
            return float("nan")

        def load_average(self) -> list[float] | None:
            return [float("inf"), 0.0, 0.0]

    mad = Looked(Mad(tmp_path), tmp_path)
    assert not {"cpu_physical_cores", "temperature", "load_average"} & (mad.facts.keys() | mad.metrics.keys())
    assert mad.sources["memory_total"] == "sysconf"
    model = mad.facts["model"]
    assert model.startswith("Evil [31m Pi x") and len(model) <= 256 and model.isprintable()


def test_the_owners_word_is_a_source(tmp_path: Path) -> None:
    profiler = DeviceProfiler(RaspberryPi(devices.pi_4(tmp_path)), tmp_path, "kitchen")
    assert profiler.get_system_info()["role"] == "kitchen" and profiler.sources()["role"] == "owner"


def test_tools_and_services_are_found_without_starting_them(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    for name in ("ffmpeg", "python3.12", "x86_64-linux-gnu-gcc-12", "git"):
        devices.program(folder, name, "exit 1")
    (folder / "python3").symlink_to("python3.12")
    (folder / "gcc").symlink_to("x86_64-linux-gnu-gcc-12")
    (folder / "git").chmod(0o644)
    assert tools.find_tools(f"{tmp_path / 'none'}:{folder}") == {"ffmpeg": "", "gcc": "12", "python3": "3.12"}
    devices.plant(tmp_path, {"run/docker.sock": "", "run/cups/cups.sock": ""})
    assert tools.find_services(tmp_path) == ["docker", "cups"]
