"""Made-up devices: trees of /proc and /sys as such a device would show them, and programs that answer as theirs do.

Every file is written by hand after the kernel's documented formats; the figures are plausible, not copied.
"""

from __future__ import annotations

import os
import socket
import stat
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

PROGRAMS = "programs"
MEMINFO = "MemTotal: {total} kB\nMemFree: 90000 kB\nMemAvailable: {available} kB\n"
STAT = "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n"
DISKSTATS = " 179 0 {disk} 100 0 2000 0 50 0 4000 0 0 0 0\n"
NET_DEV = "Inter-| Receive | Transmit\n face |bytes |bytes\n lo: 7 0 0 0 0 0 0 0 7 0\n{rows}"
ROUTE = "Iface Destination Gateway Flags RefCnt Use Metric Mask\n{name} 00000000 0101A8C0 0003 0 0 0 00000000\n"
IF_INET6 = "fe80000000000000ba27ebfffe123456 02 40 20 80 {name}\n"


class Closed:
    """A place that exists and may not be read."""


def plant(root: Path, files: dict[str, Any]) -> Path:
    """Write a tree: texts, bytes, Closed, and `Path` for a symbolic link."""
    for name, content in files.items():
        place = root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            place.symlink_to(content)
        elif isinstance(content, Closed):
            # A folder cannot be read as a file, also not by root.
            place.mkdir()
        elif isinstance(content, bytes):
            place.write_bytes(content)
        else:
            place.write_text(content)
    return root


def program(folder: Path, name: str, text: str) -> None:
    """A program for the search path."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / name
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(place.stat().st_mode | stat.S_IXUSR)


def arm_cpuinfo(cores: list[tuple[str, str]], tail: str = "") -> str:
    """(implementer, part) of each core."""
    blocks = [f"processor\t: {n}\nBogoMIPS\t: 38.40\nCPU implementer\t: {maker}\nCPU part\t: {part}\n"
              for n, (maker, part) in enumerate(cores)]  # fmt: skip
    return "\n".join(blocks) + tail


def topology(cores: list[tuple[int, int]]) -> dict[str, Any]:
    """(package, core) of each logical processor."""
    found: dict[str, Any] = {}
    for number, (package, core) in enumerate(cores):
        base = f"sys/devices/system/cpu/cpu{number}/topology"
        found |= {f"{base}/physical_package_id": f"{package}\n", f"{base}/core_id": f"{core}\n"}
    return found


def card(name: str, mac: str, *, wireless: bool = False, physical: bool = True, state: str = "up") -> dict[str, Any]:
    base = f"sys/class/net/{name}"
    found: dict[str, Any] = {f"{base}/address": f"{mac}\n", f"{base}/operstate": f"{state}\n"}
    if wireless:
        found[f"{base}/wireless/status"] = "0"
    if physical:
        found[f"{base}/device/uevent"] = ""
    return found


def disk(name: str, sectors: int, *, rotational: int = 0, model: str = "", removable: int = 0) -> dict[str, Any]:
    base = f"sys/block/{name}"
    found = {f"{base}/size": f"{sectors}\n", f"{base}/queue/rotational": f"{rotational}\n"}
    found[f"{base}/removable"] = f"{removable}\n"
    return found | ({f"{base}/device/model": f"{model}\n"} if model else {})


def pixel(root: Path) -> Path:
    """A phone under Termux: /proc/stat, /proc/net and /sys/class/net closed; getprop and Termux:API answer."""
    cores = [("0x51", "0x805")] * 4 + [("0x51", "0x804")] * 4
    plant(
        root,
        {
            "proc/meminfo": MEMINFO.format(total=5_600_000, available=2_100_000),
            "proc/cpuinfo": arm_cpuinfo(cores, "Hardware\t: Qualcomm Technologies, Inc SM8150\n"),
            "proc/stat": Closed(),
            "proc/uptime": Closed(),
            "proc/diskstats": Closed(),
            "proc/net/dev": Closed(),
            "proc/net/route": Closed(),
            "sys/class/thermal/thermal_zone0/temp": "38400\n",
            "sys/class/thermal/thermal_zone7/temp": Closed(),
            "sys/class/leds/lcd-backlight/brightness": "0\n",
        },
    )
    answers = "[ro.build.version.release]: [13]\n[ro.product.manufacturer]: [Google]\n[ro.product.model]: [Pixel 4]"
    programs = root / PROGRAMS
    program(programs, "getprop", f"cat <<END\n{answers}\nEND")
    battery = (
        '{"health": "GOOD", "percentage": 63, "plugged": "UNPLUGGED", "status": "DISCHARGING", "temperature": 31.2}'
    )
    program(programs, "termux-battery-status", f"echo '{battery}'")
    return root


def pi_4(root: Path) -> Path:
    """A Raspberry Pi 4: device tree, an SD card, a firmware that tells of low voltage."""
    name = "Raspberry Pi 4 Model B Rev 1.4"
    plant(
        root,
        {
            "proc/meminfo": MEMINFO.format(total=3_880_000, available=3_000_000),
            "proc/cpuinfo": arm_cpuinfo([("0x41", "0xd08")] * 4, f"Hardware\t: BCM2835\nModel\t: {name}\n"),
            "proc/device-tree/model": name.encode() + b"\0",
            "proc/stat": STAT.format(busy=1000, idle=9000),
            "proc/uptime": "7200.10 28000.00\n",
            "proc/diskstats": DISKSTATS.format(disk="mmcblk0"),
            "proc/net/dev": NET_DEV.format(rows=" eth0: 1000 0 0 0 0 0 0 0 300 0\n wlan0: 5 0 0 0 0 0 0 0 5 0\n"),
            "proc/net/route": ROUTE.format(name="eth0"),
            "proc/net/if_inet6": IF_INET6.format(name="eth0"),
            "etc/os-release": 'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
            "sys/class/thermal/thermal_zone0/temp": "61340\n",
            "sys/class/drm/card1/device/driver": Path("/bus/platform/drivers/vc4-drm"),
            **topology([(0, core) for core in range(4)]),
            **disk("mmcblk0", 62_333_952),
            **disk("mmcblk0boot0", 8192),
            **card("eth0", "dc:a6:32:00:00:01"),
            **card("wlan0", "dc:a6:32:00:00:02", wireless=True, state="down"),
            **card("docker0", "02:42:ac:11:00:02", physical=False),
        },
    )
    program(root / PROGRAMS, "vcgencmd", 'case "$1" in get_throttled) echo throttled=0x50001;; esac')
    return root


def pi_zero(root: Path) -> Path:
    """A Raspberry Pi Zero W: one ARMv6 core, half a gigabyte, no vcgencmd, no topology that is worth the name."""
    name = "Raspberry Pi Zero W Rev 1.1"
    return plant(
        root,
        {
            "proc/meminfo": MEMINFO.format(total=442_000, available=300_000),
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\n"
            f"CPU implementer\t: 0x41\nCPU part\t: 0xb76\n\nHardware\t: BCM2835\nModel\t\t: {name}\n",
            "proc/device-tree/model": name.encode() + b"\0",
            "proc/stat": STAT.format(busy=50, idle=50),
            "proc/uptime": "100.00 50.00\n",
            "proc/net/route": ROUTE.format(name="wlan0"),
            "sys/class/thermal/thermal_zone0/temp": "45000\n",
            **disk("mmcblk0", 15_523_840),
            **card("wlan0", "b8:27:eb:00:00:03", wireless=True),
        },
    )


def old_laptop(root: Path) -> Path:
    """A laptop of 2010 on its worn battery: two cores with two threads each, a spinning disk, an empty DVD drive."""
    return plant(
        root,
        {
            "proc/meminfo": MEMINFO.format(total=3_900_000, available=1_000_000),
            "proc/cpuinfo": "".join(
                f"processor\t: {number}\nmodel name\t: Intel(R) Core(TM) i5 CPU M 520 @ 2.40GHz\n\n"
                for number in range(4)
            ),
            "proc/stat": STAT.format(busy=100, idle=900),
            "proc/uptime": "4000.00 9000.00\n",
            "proc/diskstats": DISKSTATS.format(disk="sda"),
            "proc/net/dev": NET_DEV.format(rows=" wlp2s0: 900 0 0 0 0 0 0 0 90 0\n"),
            "proc/net/route": ROUTE.format(name="wlp2s0"),
            "etc/os-release": "PRETTY_NAME='Ubuntu 22.04.4 LTS'\n",
            "sys/class/dmi/id/sys_vendor": "LENOVO\n",
            "sys/class/dmi/id/product_name": "2537AB1\n",
            "sys/class/thermal/thermal_zone0/temp": "71000\n",
            "sys/class/power_supply/AC/type": "Mains\n",
            "sys/class/power_supply/AC/online": "0\n",
            "sys/class/power_supply/BAT0/type": "Battery\n",
            "sys/class/power_supply/BAT0/capacity": "42\n",
            "sys/class/power_supply/BAT0/status": "Discharging\n",
            "sys/class/power_supply/BAT0/energy_full": "28000000\n",
            "sys/class/power_supply/BAT0/energy_full_design": "56000000\n",
            "sys/class/power_supply/hidpp_battery_0/type": "Battery\n",
            "sys/class/power_supply/hidpp_battery_0/scope": "Device\n",
            "sys/class/power_supply/hidpp_battery_0/capacity": "5\n",
            "sys/class/drm/card0/device/vendor": "0x8086\n",
            "sys/class/drm/card0/device/driver": Path("/bus/pci/drivers/i915"),
            "run/systemd/sessions/c1": "CLASS=greeter\nSTATE=active\nTYPE=x11\nTTY=tty7\n",
            "run/systemd/sessions/4": "CLASS=user\nSTATE=active\nTYPE=tty\nTTY=pts/0\n",
            "dev/pts/0": "",
            **topology([(0, 0), (0, 2), (0, 0), (0, 2)]),
            **disk("sda", 488_397_168, rotational=1, model="HITACHI HTS72502"),
            **disk("sr0", 0, rotational=1, removable=1),
            **card("wlp2s0", "00:27:10:00:00:04", wireless=True),
            **card("enp0s25", "f0:de:f1:00:00:05", state="down"),
        },
    )


def laptop_with_two_batteries(root: Path) -> Path:
    """A laptop off its dock: the inner battery waits, the outer one, twice as big, is being used up."""
    old_laptop(root)
    base = "sys/class/power_supply"
    return plant(
        root,
        {
            f"{base}/BAT0/capacity": "80\n",
            f"{base}/BAT0/status": "Not charging\n",
            f"{base}/BAT0/health": "Good\n",
            f"{base}/BAT1/type": "Battery\n",
            f"{base}/BAT1/capacity": "35\n",
            f"{base}/BAT1/status": "Discharging\n",
            f"{base}/BAT1/health": "Overheat\n",
            f"{base}/BAT1/energy_full": "56000000\n",
            f"{base}/BAT1/energy_full_design": "56000000\n",
            f"{base}/BAT1/temp": "431\n",
            f"{base}/BAT2/type": "Battery\n",
            f"{base}/BAT2/present": "0\n",
            f"{base}/BAT2/capacity": "0\n",
        },
    )


def server(root: Path) -> Path:
    """A box whose disks and cards stand on each other: a pool's volumes, a mirror, a bond, a bridge, containers."""
    nas(root)
    stacked = {"bond0": "lower_eth0/x", "br0": "bridge/x", "eth0.10": "lower_eth0/x", "wg0": "tun_flags"}
    names = ("eth0", "bond0", "br0", "docker0", "veth1a2b", "eth0.10", "wg0")
    rows = "".join(f" {name}: 1000 0 0 0 0 0 0 0 100 0\n" for name in names)
    volumes: dict[str, Any] = {}
    for name in ("zd0", "zd16", "drbd0", "bcache0", "mmcblk2boot0", "mmcblk2boot1", "nvme0c0n1"):
        volumes |= disk(name, 7_814_037_168)
    return plant(
        root,
        {
            "proc/net/dev": NET_DEV.format(rows=rows),
            **{f"sys/class/net/{name}/{mark}": "" for name, mark in stacked.items()},
            **volumes,
            **disk("odd1", 7_814_037_168),
            "sys/block/odd1/slaves/sda": "",
            "sys/class/thermal/thermal_zone0/temp": "27800\n",
            "sys/class/hwmon/hwmon0/name": "acpitz\n",
            "sys/class/hwmon/hwmon1/name": "coretemp\n",
            "sys/class/hwmon/hwmon1/temp1_input": "93000\n",
            "sys/class/hwmon/hwmon2/name": "nct6775\n",
            "sys/class/hwmon/hwmon2/temp3_input": "126500\n",
        },
    )


def nas(root: Path) -> Path:
    """A box with four big disks and no sensor at all."""
    disks: dict[str, Any] = {}
    for letter in "abcd":
        disks |= disk(f"sd{letter}", 7_814_037_168, rotational=1, model="WDC WD40EFRX-68N")
    return plant(
        root,
        {
            "proc/meminfo": MEMINFO.format(total=2_000_000, available=1_500_000),
            "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Celeron(R) CPU J3355 @ 2.00GHz\n",
            "proc/stat": STAT.format(busy=1, idle=99),
            "proc/uptime": "8640000.00 1.00\n",
            "proc/net/route": ROUTE.format(name="eth0"),
            "etc/os-release": 'PRETTY_NAME="openmediavault 7"\n',
            "sys/class/dmi/id/sys_vendor": "To Be Filled By O.E.M.\n",
            "sys/class/dmi/id/product_name": "Default string\n",
            **disks,
            **disk("md0", 23_441_000_000, rotational=1),
            **card("eth0", "00:11:32:00:00:06"),
        },
    )


def address(family: int, text: str) -> SimpleNamespace:
    return SimpleNamespace(family=family, address=text)


class FakePsutil:
    """What psutil says on a system where nothing of ours can look itself."""

    AF_LINK = -1

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name not in self._answers:
            raise AttributeError(f"module 'psutil' has no attribute {name!r}")
        answer = self._answers[name]

        def call(*arguments: Any, **named: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer(*arguments, **named) if callable(answer) else answer

        return call


def cpu_times(busy_s: float, idle_s: float) -> Any:
    """As the real one: times that only grow, the same for whoever asks."""
    steps = count(1)

    def times() -> SimpleNamespace:
        step = next(steps)
        return SimpleNamespace(user=0.75 * busy_s * step, system=0.25 * busy_s * step, idle=idle_s * step,
                               interrupt=0.1 * step, dpc=0.1 * step)  # fmt: skip

    return times


def windows_psutil() -> FakePsutil:
    """A desktop PC with Windows; its card reader has no card."""

    def disk_usage(mountpoint: str) -> Any:
        if mountpoint == "E:\\":
            raise PermissionError(13, "the device is not ready")
        return SimpleNamespace(total=512 * 10**9, used=100 * 10**9, free=412 * 10**9)

    return FakePsutil(
        virtual_memory=SimpleNamespace(total=16 * 2**30, percent=41.5),
        cpu_times=cpu_times(1.0, 7.0),
        cpu_count=lambda logical=True: 12 if logical else 6,
        boot_time=1_790_000_000.0,
        sensors_battery=None,
        disk_io_counters=SimpleNamespace(read_bytes=10, write_bytes=20),
        net_io_counters=lambda pernic: {
            "Ethernet": SimpleNamespace(bytes_recv=100, bytes_sent=50),
            "Loopback Pseudo-Interface 1": SimpleNamespace(bytes_recv=9, bytes_sent=9),
        },
        disk_partitions=lambda **_: [
            SimpleNamespace(device="C:\\", mountpoint="C:\\", fstype="NTFS", opts="rw,fixed"),
            SimpleNamespace(device="D:\\", mountpoint="D:\\", fstype="", opts="cdrom"),
            SimpleNamespace(device="E:\\", mountpoint="E:\\", fstype="", opts="removable"),
        ],
        disk_usage=disk_usage,
        net_if_addrs={
            "Ethernet": [address(-1, "9C-5C-8E-00-00-07"), address(socket.AF_INET, "192.168.1.20")],
            "Wi-Fi": [address(-1, "9C-5C-8E-00-00-08")],
            "vEthernet (WSL)": [address(socket.AF_INET, "172.20.0.1")],
            "Loopback Pseudo-Interface 1": [address(socket.AF_INET, "127.0.0.1")],
        },
        net_if_stats={"Ethernet": SimpleNamespace(isup=True), "Wi-Fi": SimpleNamespace(isup=False)},
    )


def mac_psutil() -> FakePsutil:
    """A MacBook on its charger; psutil has no temperatures there."""
    return FakePsutil(
        virtual_memory=SimpleNamespace(total=8 * 2**30, percent=70.1),
        cpu_times=cpu_times(3.0, 7.0),
        cpu_count=lambda logical=True: 8,
        boot_time=1_790_000_000.0,
        sensors_battery=SimpleNamespace(percent=97, power_plugged=True),
        disk_io_counters=SimpleNamespace(read_bytes=1, write_bytes=2),
        net_io_counters=lambda pernic: {"en0": SimpleNamespace(bytes_recv=1, bytes_sent=2)},
        disk_partitions=lambda **_: [
            SimpleNamespace(device="/dev/disk3s1s1", mountpoint="/", fstype="apfs", opts="ro")
        ],
        disk_usage=lambda mountpoint: SimpleNamespace(total=494 * 10**9, used=1, free=1),
        net_if_addrs={
            "lo0": [address(socket.AF_INET, "127.0.0.1")],
            "en0": [address(-1, "f0:18:98:00:00:09"), address(socket.AF_INET6, "fe80::1%en0")],
            "utun0": [address(socket.AF_INET6, "fe80::2%utun0")],
        },
        net_if_stats=PermissionError(1, "not permitted"),
    )


def path_with(root: Path) -> str:
    """A search path that has the device's own programs first and the shell's after them."""
    return f"{root / PROGRAMS}:{os.defpath}"
