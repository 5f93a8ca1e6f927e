"""Linux: what /proc and /sys tell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retirecluster.platforms import batteries, interfaces, sessions
from retirecluster.platforms.arm import core_names
from retirecluster.platforms.base import PROBE_ERRORS, Platform, Ways, preferring
from retirecluster.platforms.programs import answer_of

SECTOR_BYTES = 512
ROUTE_UP = 0x1
NO_DISK = re.compile(
    r"(loop|ram|zram|dm-|md|sr|fd|nbd|rbd|mtdblock|zd|drbd|bcache)\d|mmcblk\d+(boot|rpmb|gp)|nvme\d+c\d+n"
)
"""Block devices that are none, or stand on others, which count already."""
TRUSTED_SENSORS = (
    "coretemp", "k8temp", "k10temp", "zenpower", "cpu_thermal", "soc_thermal", "amdgpu", "nouveau", "radeon", "i915",
    "xe", "nvme", "drivetemp",
)  # fmt: skip
"""Drivers whose figures mean something. Chips of mainboards have inputs with nothing connected, at 120 degrees."""
STACKED = ("bridge", "bonding", "tun_flags")
"""What the folder of such an interface has; others have links to those below them."""
PCI_VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x1a03": "ASPEED", "0x102b": "Matrox"}
NO_MODEL = ("", "System Product Name", "To Be Filled By O.E.M.", "Default string", "None")
"""What makers of boards leave in the firmware."""


class Linux(Platform):
    """A laptop, a server, a board."""

    name = "linux"
    slow = {"metered": 60.0, "owner": 10.0}

    def ways(self) -> Ways:
        return preferring(
            super().ways(),
            os_name=[("/etc/os-release", self.os_name)],
            model=[("/proc/device-tree", self.board_model), ("/sys/class/dmi", self.dmi_model)],
            cpu_model=[("/proc/cpuinfo", self.cpu_model)],
            cpu_physical_cores=[("/sys/devices/system/cpu", self.physical_cores)],
            memory_total=[("/proc/meminfo", self.memory_total)],
            disks=[("/sys/block", self.disks)],
            gpu=[("/proc/driver/nvidia", self.nvidia_gpu), ("/dev/kfd", self.amd_gpu)],
            graphics=[("/sys/class/drm", self.graphics)],
            network_interfaces=[("/sys/class/net", self.network_interfaces)],
        )

    # Memory and processors

    def memory_total(self) -> int | None:
        return self._meminfo()["MemTotal"]

    def memory_usage(self) -> float | None:
        info = self._meminfo()
        return round(100.0 * (1.0 - info["MemAvailable"] / info["MemTotal"]), 1)

    def _meminfo(self) -> dict[str, int]:
        """Bytes by name."""
        rows = (line.split() for line in self.read("proc/meminfo").splitlines())
        return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) >= 2}

    def cpu_times(self) -> tuple[float, float] | None:
        fields = [int(each) for each in self.read("proc/stat").splitlines()[0].split()[1:9]]
        total = sum(fields)
        idle = fields[3] + fields[4]
        ticks = float(os.sysconf("SC_CLK_TCK"))
        return (total - idle) / ticks, total / ticks

    def uptime_s(self) -> float | None:
        return float(self.read("proc/uptime").split()[0])

    def cpu_model(self) -> str | None:
        """The processor by its name; on ARM, where the kernel gives numbers, by the names of its cores."""
        rows = [line.partition(":") for line in self.read("proc/cpuinfo").splitlines()]
        said = [(name.strip(), value.strip()) for name, _, value in rows]
        model = next((value for name, value in said if name == "model name" and value), None)
        cores = core_names(said)
        if model is None or (cores and model.startswith("ARMv")):
            return cores or model or next((value for name, value in said if name == "Hardware" and value), None)
        return model[:256]

    def physical_cores(self) -> int | None:
        """Cores without their hyper-threads."""
        found = set()
        for place in (self.root / "sys/devices/system/cpu").glob("cpu[0-9]*"):
            try:
                package, core = ((place / "topology" / name).read_text() for name in ("physical_package_id", "core_id"))
                # Some ARM kernels give -1 for the package, and number the cores of each cluster anew.
                cluster = (place / "topology/cluster_id").read_text() if package.strip() == "-1" else ""
            except OSError:
                continue
            found.add((package.strip(), cluster.strip(), core.strip()))
        return len(found) or None

    # What it is

    def os_name(self) -> str | None:
        """As `Debian GNU/Linux 12 (bookworm)`."""
        rows = [line.partition("=") for line in self.read("etc/os-release").splitlines()]
        return next((value.strip().strip("\"'") for name, _, value in rows if name == "PRETTY_NAME"), None)

    def board_model(self) -> str | None:
        """As a board's device tree names it."""
        return self.read("proc/device-tree/model")[:256] or None

    def dmi_model(self) -> str | None:
        """As a PC's firmware names it: maker and product."""
        words = [self._optional(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
        return " ".join(word for word in words if word not in NO_MODEL)[:256] or None

    def _optional(self, path: str) -> str:
        try:
            return self.read(path)
        except OSError:
            return ""

    # Heat and power

    def temperature_c(self) -> float | None:
        """The hottest of the thermal zones and of the sensors that can be trusted."""
        found = []
        for place in (*self._zones(), *self._sensors()):
            try:
                found.append(int(place.read_text()) / 1000.0)
            except PROBE_ERRORS:
                continue
        sane = [each for each in found if -50.0 < each < 200.0]
        return round(max(sane), 1) if sane else None

    def _zones(self) -> Iterator[Path]:
        return (self.root / "sys/class/thermal").glob("thermal_zone*/temp")

    def _sensors(self) -> Iterator[Path]:
        for sensor in (self.root / "sys/class/hwmon").glob("hwmon*"):
            if self._said(sensor, "name") in TRUSTED_SENSORS:
                yield from sensor.glob("temp*_input")

    def battery(self) -> dict[str, Any] | None:
        return batteries.battery(self.root / "sys/class/power_supply")

    def _said(self, place: Path, name: str) -> str:
        """A small file of a folder, empty where it cannot be read."""
        try:
            return (place / name).read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    # Disks

    def disk_io(self) -> dict[str, int] | None:
        """Whole disks alone, so that nothing counts twice."""
        whole = {each.name for each in (self.root / "sys/block").glob("*") if _is_disk(each)}
        read = written = 0
        for line in self.read("proc/diskstats").splitlines():
            row = line.split()
            if row[2] in whole:
                read += int(row[5]) * SECTOR_BYTES
                written += int(row[9]) * SECTOR_BYTES
        return {"read_bytes": read, "write_bytes": written}

    def disks(self) -> list[dict[str, Any]] | None:
        """Whole disks with their sizes; those without a medium left out."""
        found = []
        for place in sorted((self.root / "sys/block").glob("*")):
            if not _is_disk(place):
                continue
            try:
                sectors = int((place / "size").read_text())
            except PROBE_ERRORS:
                continue
            if sectors > 0:
                found.append({"name": place.name, "total_bytes": sectors * SECTOR_BYTES} | self._disk_more(place))
        return found or None

    def _disk_more(self, place: Path) -> dict[str, Any]:
        def said(name: str) -> str:
            return self._said(place, name)

        found: dict[str, Any] = {}
        if place.name.startswith("mmcblk"):
            found["type"] = "flash"
        elif said("queue/rotational") in ("0", "1"):
            found["type"] = "hdd" if said("queue/rotational") == "1" else "ssd"
        if said("removable") == "1":
            found["removable"] = True
        model = said("device/model")
        return found | ({"model": model[:128]} if model else {})

    # Graphics

    def nvidia_gpu(self) -> str | None:
        for place in sorted((self.root / "proc/driver/nvidia/gpus").glob("*/information")):
            match = re.search(r"^Model:\s*(.+)$", place.read_text("utf-8", "replace"), re.MULTILINE)
            if match:
                return match[1].strip()[:256]
        return None

    def amd_gpu(self) -> str | None:
        """Tasks reach AMD's processors through one device, which is there where the driver for computing is."""
        return "AMD" if (self.root / "dev/kfd").exists() else None

    def graphics(self) -> list[str] | None:
        """Graphics processors of any kind, whether or not tasks can compute on them."""
        found: dict[str, None] = {}
        for card in sorted((self.root / "sys/class/drm").glob("card[0-9]*")):
            vendor, driver = self._said(card, "device/vendor"), card / "device/driver"
            words = [
                PCI_VENDORS.get(vendor, vendor),
                os.readlink(driver).rpartition("/")[2] if driver.is_symlink() else "",
            ]
            if any(words):
                found[" ".join(word for word in words if word)[:128]] = None
        return list(found) or None

    # The network

    def network_io(self) -> dict[str, int] | None:
        """Of the interfaces that send themselves: what goes through a bridge, a bond or a tunnel goes through one."""
        rows = [line.partition(":") for line in self.read("proc/net/dev").splitlines()[2:]]
        cards = {name.strip(): figures.split() for name, _, figures in rows if not interfaces.is_loopback(name.strip())}
        counted = interfaces.own_traffic(cards, self._stands_on_others)
        return {
            "received_bytes": sum(int(cards[name][0]) for name in counted),
            "sent_bytes": sum(int(cards[name][8]) for name in counted),
        }

    def _stands_on_others(self, name: str) -> bool:
        place = self.root / "sys/class/net" / name
        return any((place / mark).exists() for mark in STACKED) or any(place.glob("lower_*"))

    def network_interfaces(self) -> list[dict[str, Any]] | None:
        addresses = self._addresses()
        found = []
        for place in sorted((self.root / "sys/class/net").iterdir()):
            if interfaces.is_loopback(place.name) or not (place / "address").exists():
                continue
            found.append(
                interfaces.described(
                    place.name,
                    kind=self._kind(place),
                    mac=self._said(place, "address"),
                    addresses=addresses.get(place.name, []) + self._ipv4(place.name),
                    up={"up": True, "down": False}.get(self._said(place, "operstate")),
                )
            )
        return found or None

    def _kind(self, place: Path) -> str | None:
        wireless = (place / "wireless").exists() or (place / "phy80211").exists()
        return interfaces.kind_of(place.name, wireless, (place / "device").exists())

    def _addresses(self) -> dict[str, list[str]]:
        """IPv6 addresses by interface."""
        import ipaddress

        found: dict[str, list[str]] = {}
        for line in self._optional("proc/net/if_inet6").splitlines():
            row = line.split()
            if len(row) == 6 and len(row[0]) == 32:
                found.setdefault(row[5], []).append(str(ipaddress.IPv6Address(int(row[0], 16))))
        return found

    def _ipv4(self, name: str) -> list[str]:
        """An interface's first IPv4 address, by the old system call: /proc does not say whose an address is."""
        if self.root != Path("/"):
            return []
        import fcntl
        import socket
        import struct

        get_address = 0x8915
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                said = fcntl.ioctl(probe, get_address, struct.pack("256s", name.encode()[:15]))
            except OSError:
                return []
        return [socket.inet_ntoa(said[20:24])]

    def has_default_route(self) -> bool | None:
        return self.way_out() is not None

    def way_out(self) -> str | None:
        """The interface of the default route; None where there is none."""
        rows = [line.split() for line in self.read("proc/net/route").splitlines()[1:]]
        for row in rows:
            if row[1] == "00000000" and row[7] == "00000000" and int(row[3], 16) & ROUTE_UP:
                return row[0]
        rows = [line.split() for line in self._optional("proc/net/ipv6_route").splitlines()]
        return next((row[9] for row in rows if row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo"), None)

    def metered(self) -> bool | None:
        """By the interface of the default route; of a wireless one NetworkManager knows, where it runs. A device that
        has no way out and is on cables alone has nothing that could be metered."""
        name = self.way_out()
        if name is None:
            return False if self._on_cables_alone() else None
        kind = self._kind(self.root / "sys/class/net" / name)
        if kind == interfaces.MOBILE:
            return True
        try:
            said = answer_of("nmcli", "-g", "GENERAL.METERED", "device", "show", name).strip().partition(" ")[0]
        except OSError:
            said = ""
        return {"yes": True, "no": False}.get(said, False if kind == interfaces.ETHERNET else None)

    def _on_cables_alone(self) -> bool:
        places = (self.root / "sys/class/net").glob("*")
        up = [self._kind(each) for each in places if each.name != "lo" and self._said(each, "operstate") == "up"]
        own = [kind for kind in up if kind != interfaces.VIRTUAL]
        return bool(own) and set(own) == {interfaces.ETHERNET}

    # The owner

    def owner_away_s(self, now: float) -> float | None:
        return sessions.away_s(self.root, now)


def _is_disk(place: Path) -> bool:
    """Whether a folder of /sys/block is a whole disk that stands on no other."""
    return NO_DISK.match(place.name) is None and not any(place.glob("slaves/*"))
