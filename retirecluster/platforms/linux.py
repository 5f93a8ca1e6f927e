"""Linux: what /proc and /sys tell."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from retirecluster.platforms.base import PROBE_ERRORS, Platform

SECTOR_BYTES = 512
ROUTE_UP = 0x1


class Linux(Platform):
    """A laptop, a server, a board."""

    name = "linux"

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

    def temperature_c(self) -> float | None:
        found = []
        for zone in (self.root / "sys/class/thermal").glob("thermal_zone*/temp"):
            try:
                found.append(int(zone.read_text()) / 1000.0)
            except PROBE_ERRORS:
                continue
        sane = [each for each in found if -50.0 < each < 200.0]
        return round(max(sane), 1) if sane else None

    def battery(self) -> dict[str, Any] | None:
        for supply in sorted((self.root / "sys/class/power_supply").glob("*")):
            if self._supply(supply, "type") != "Battery" or self._supply(supply, "scope") == "Device":
                continue
            level = self._supply(supply, "capacity")
            if level.isdigit():
                charging = self._supply(supply, "status") in ("Charging", "Full", "Not charging")
                return {"level": min(100, int(level)), "charging": charging}
        return None

    def _supply(self, supply: Path, name: str) -> str:
        try:
            return (supply / name).read_text("utf-8", "replace").strip()
        except OSError:
            return ""

    def disk_io(self) -> dict[str, int] | None:
        """Whole disks alone, so that nothing counts twice."""
        whole = {each.name for each in (self.root / "sys/block").glob("*")}
        read = written = 0
        for line in self.read("proc/diskstats").splitlines():
            row = line.split()
            if row[2] in whole and not row[2].startswith(("loop", "ram", "zram", "dm-", "md")):
                read += int(row[5]) * SECTOR_BYTES
                written += int(row[9]) * SECTOR_BYTES
        return {"read_bytes": read, "write_bytes": written}

    def network_io(self) -> dict[str, int] | None:
        received = sent = 0
        for line in self.read("proc/net/dev").splitlines()[2:]:
            name, _, figures = line.partition(":")
            if name.strip() != "lo":
                row = figures.split()
                received += int(row[0])
                sent += int(row[8])
        return {"received_bytes": received, "sent_bytes": sent}

    def has_default_route(self) -> bool | None:
        return self._default_route_4() or self._default_route_6()

    def _default_route_4(self) -> bool:
        rows = [line.split() for line in self.read("proc/net/route").splitlines()[1:]]
        return any(row[1] == "00000000" and row[7] == "00000000" and int(row[3], 16) & ROUTE_UP for row in rows)

    def _default_route_6(self) -> bool:
        try:
            rows = [line.split() for line in self.read("proc/net/ipv6_route").splitlines()]
        except OSError:
            return False
        return any(row[0] == "0" * 32 and row[1] == "00" and row[9] != "lo" for row in rows)

    def cpu_model(self) -> str | None:
        for line in self.read("proc/cpuinfo").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Hardware", "Model") and value.strip():
                return value.strip()[:256]
        return None
