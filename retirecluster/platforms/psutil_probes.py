"""What psutil tells, where it is installed. It knows every system, and on some of them raises for half of it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from retirecluster.platforms import interfaces

SOURCE = "psutil"
BUSY, IDLE = ("user", "nice", "system", "irq", "softirq", "steal"), ("idle", "iowait")
"""Of the times that systems tell. Windows counts interrupts in those of the system, Linux guests in the user's."""
SANE_C = (-50.0, 200.0)
"""Degrees Celsius between which a sensor is believed."""


def find_psutil() -> Any:
    """The module, or None: there is no wheel for every device, and one that does not fit raises."""
    try:
        import psutil
    except Exception:
        return None
    return psutil


class PsutilProbes:
    """Each method is one probe: its figure, or None where psutil does not know. Any of them may raise."""

    def __init__(self, module: Any) -> None:
        self._psutil = module

    def memory_total(self) -> int | None:
        """Bytes."""
        return int(self._psutil.virtual_memory().total)

    def memory_usage(self) -> float | None:
        """Percent."""
        return float(self._psutil.virtual_memory().percent)

    def cpu_times(self) -> tuple[float, float] | None:
        """Seconds all processors were busy, and seconds in all. Not psutil's percentage, which is since the last call
        of the same thread: two readers that share a thread would take it from each other."""
        times = self._psutil.cpu_times()
        busy = sum(getattr(times, name, 0.0) for name in BUSY)
        return busy, busy + sum(getattr(times, name, 0.0) for name in IDLE)

    def physical_cores(self) -> int | None:
        found: int | None = self._psutil.cpu_count(logical=False)
        return found

    def boot_at(self) -> float | None:
        """When the system started, Unix seconds."""
        return float(self._psutil.boot_time())

    def temperature_c(self) -> float | None:
        """The hottest sensor."""
        readings = [each.current for group in self._psutil.sensors_temperatures().values() for each in group]
        sane = [each for each in readings if each is not None and SANE_C[0] < each < SANE_C[1]]
        return round(max(sane), 1) if sane else None

    def battery(self) -> dict[str, Any] | None:
        """`level` in percent; `charging` where it is known."""
        found = self._psutil.sensors_battery()
        if found is None:
            return None
        level = {"level": round(min(100.0, max(0.0, float(found.percent))), 1)}
        return level if found.power_plugged is None else level | {"charging": bool(found.power_plugged)}

    def disk_io(self) -> Mapping[str, int] | None:
        """Bytes read and written since the start of the device."""
        counters = self._psutil.disk_io_counters()
        return None if counters is None else {"read_bytes": counters.read_bytes, "write_bytes": counters.write_bytes}

    def network_io(self) -> Mapping[str, int] | None:
        """Bytes since the start of the device, of interfaces that send themselves."""
        every = self._psutil.net_io_counters(pernic=True)
        names = interfaces.own_traffic(name for name in every if not interfaces.is_loopback(name))
        cards = [every[name] for name in names]
        return {
            "received_bytes": sum(card.bytes_recv for card in cards),
            "sent_bytes": sum(card.bytes_sent for card in cards),
        }

    def interfaces(self) -> list[dict[str, Any]] | None:
        """Network interfaces with addresses, loopback left out."""
        found = []
        states = self._states()
        for name, each in self._psutil.net_if_addrs().items():
            if interfaces.is_loopback(name):
                continue
            addresses = [one.address for one in each if one.family in (socket.AF_INET, socket.AF_INET6)]
            mac = next((one.address for one in each if one.family == self._psutil.AF_LINK), None)
            kind = interfaces.kind_of(name)
            found.append(interfaces.described(name, kind=kind, mac=mac, addresses=addresses, up=states.get(name)))
        return found or None

    def _states(self) -> Mapping[str, bool]:
        try:
            return {name: bool(each.isup) for name, each in self._psutil.net_if_stats().items()}
        except Exception:  # closed on Android
            return {}

    def disks(self) -> list[dict[str, Any]] | None:
        """File systems on real devices, each device once."""
        found: dict[str, dict[str, Any]] = {}
        for part in self._psutil.disk_partitions(all=False):
            if part.device in found or "cdrom" in part.opts:
                continue
            try:
                total = self._psutil.disk_usage(part.mountpoint).total
            except OSError:  # a card reader without a card
                continue
            found[part.device] = {"name": part.device, "total_bytes": int(total), "file_system": part.fstype}
        return list(found.values()) or None
