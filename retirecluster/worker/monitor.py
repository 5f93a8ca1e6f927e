"""The system monitor: how the device is doing, as heartbeats tell it.

psutil is used where it is there; what it cannot tell comes from the platform. Each probe may fail alone: its
figure is then left out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from retirecluster.platforms.base import PROBE_ERRORS, Platform

try:
    import psutil
except (ImportError, OSError, NotImplementedError):  # no wheel for this device, or one that does not fit
    psutil = None

BATTERY_EVERY_S = 60.0
"""Some devices take seconds to tell."""


@define(eq=False)
class SystemMonitor:
    """Reads the metrics. Called in a thread, one call at a time; rates are over the time since the last call."""

    platform: Platform
    folder: Path
    monotonic: Callable[[], float]
    log = Logger()
    _cpu: tuple[float, float] | None = field(default=None, init=False)
    _counters: dict[str, tuple[float, Mapping[str, int]]] = field(factory=dict, init=False)
    _battery: dict[str, Any] | None = field(default=None, init=False)
    _battery_at: float | None = field(default=None, init=False)
    _failed: set[str] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        self._try("cpu_usage", self._cpu_usage)  # the first reading says nothing, the next one does

    def read(self) -> dict[str, Any]:
        """`system_metrics` of the heartbeat message: percentages 0 to 100, seconds, bytes, degrees Celsius."""
        probes: dict[str, Callable[[], Any]] = {
            "cpu_usage": self._cpu_usage,
            "memory_usage": self._memory_usage,
            "disk_usage": self._disk_usage,
            "load_average": self.platform.load_average,
            "uptime": self._uptime,
            "temperature": self._temperature,
            "battery": self._battery_now,
            "disk_io": lambda: self._rates("disk_io", self._disk_counters()),
            "network": lambda: self._rates("network", self._network_counters()),
        }
        found = {}
        for name, probe in probes.items():
            value = self._try(name, probe)
            if value is not None:
                found[name] = value
        return found | (self._try("health", self.platform.health) or {})

    def _try(self, name: str, probe: Callable[[], Any]) -> Any:
        errors: tuple[type[BaseException], ...] = (*PROBE_ERRORS, psutil.Error) if psutil else PROBE_ERRORS
        try:
            return probe()
        except errors as error:
            if name not in self._failed:
                self._failed.add(name)
                self.log.info("{name} cannot be read on this device: {why}", name=name, why=str(error))
            return None

    def _cpu_usage(self) -> float | None:
        times = self.platform.cpu_times()
        if times is None:
            return float(psutil.cpu_percent(None)) if psutil else None
        before, self._cpu = self._cpu, times
        if before is None or times[1] <= before[1]:
            return None  # one reading says nothing
        return _percent(100.0 * (times[0] - before[0]) / (times[1] - before[1]))

    def _memory_usage(self) -> float | None:
        if psutil:
            return _percent(psutil.virtual_memory().percent)
        return self.platform.memory_usage()

    def _disk_usage(self) -> float:
        disk = shutil.disk_usage(self.folder)
        return _percent(100.0 * disk.used / (disk.used + disk.free))

    def _uptime(self) -> float | None:
        uptime_s = self.platform.uptime_s()
        return round(uptime_s, 1) if uptime_s is not None else None

    def _temperature(self) -> float | None:
        found = self.platform.temperature_c()
        if found is None and psutil and hasattr(psutil, "sensors_temperatures"):
            readings = [each.current for group in psutil.sensors_temperatures().values() for each in group]
            sane = [each for each in readings if each is not None and -50.0 < each < 200.0]
            return round(max(sane), 1) if sane else None
        return found

    def _battery_now(self) -> dict[str, Any] | None:
        now = self.monotonic()
        if self._battery_at is None or now - self._battery_at >= BATTERY_EVERY_S:
            self._battery_at = now
            self._battery = None
            self._battery = self.platform.battery() or _psutil_battery()
        return self._battery

    def _disk_counters(self) -> Mapping[str, int] | None:
        if psutil and (counters := psutil.disk_io_counters()) is not None:
            return {"read_bytes": counters.read_bytes, "write_bytes": counters.write_bytes}
        return self.platform.disk_io()

    def _network_counters(self) -> Mapping[str, int] | None:
        if not psutil:
            return self.platform.network_io()
        cards = [card for name, card in psutil.net_io_counters(pernic=True).items() if not name.startswith("lo")]
        return {
            "received_bytes": sum(card.bytes_recv for card in cards),
            "sent_bytes": sum(card.bytes_sent for card in cards),
        }

    def _rates(self, name: str, counters: Mapping[str, int] | None) -> dict[str, Any] | None:
        """The counters, and how they grow, as `..._per_s`."""
        if counters is None:
            return None
        now = self.monotonic()
        before = self._counters.get(name)
        self._counters[name] = (now, counters)
        found: dict[str, Any] = dict(counters)
        if before is not None and now > before[0]:
            for each, value in counters.items():
                grown = max(0, value - before[1].get(each, value))
                found[f"{each}_per_s"] = round(grown / (now - before[0]), 1)
        return found


def _psutil_battery() -> dict[str, Any] | None:
    found = psutil.sensors_battery() if psutil and hasattr(psutil, "sensors_battery") else None
    return {"level": _percent(found.percent), "charging": bool(found.power_plugged)} if found is not None else None


def _percent(value: float) -> float:
    return round(min(100.0, max(0.0, float(value))), 1)
