"""The system monitor: how the device is doing, as heartbeats and the owner's policy need it.

Each figure comes from the platform, or from psutil where it is installed. A probe that fails costs its own figure and
nothing else: that is then left out. Probes that start a program are asked in the background, now and then, and what
they said last is told: no heartbeat waits for them. One that does not answer in time is asked ever more rarely.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.logger import Logger

from retirecluster.domain.devices import SYSTEM_METRICS
from retirecluster.domain.fields import Problem
from retirecluster.domain.units import format_bytes
from retirecluster.platforms.base import Platform
from retirecluster.platforms.psutil_probes import PsutilProbes

SLOW_EVERY_S = 60.0
"""How often most probes that start a program are asked; see `Platform.slow`."""
HANGING_EVERY_S = 1800.0
"""How long at most one that did not answer is left alone: first as long as ever, then twice as long each time."""
BELIEVED_S = 600.0
"""How long an answer of such a probe counts when no other follows."""
HEARTBEAT, POLICY = "heartbeat", "policy"
"""Who reads: rates are over the time since the same reader's last reading."""
Probe = Callable[[], Any]
InBackground = Callable[[Callable[[], None]], None]


def in_a_thread(work: Callable[[], None]) -> None:
    """Start `work` in a thread of its own, which does not keep the process from ending."""
    threading.Thread(target=work, daemon=True, name="slow probe").start()


@define(eq=False)
class _Slow:
    """One probe that takes its time, and what it said last."""

    answer: Any = None
    answered_at: float | None = None
    asked_at: float | None = None
    busy: bool = False
    settled: bool = False
    """It has answered or failed once."""
    hung: int = 0
    """How many times in a row it did not answer in time."""

    def due(self, now: float, every_s: float) -> bool:
        """Whether to ask it again."""
        wait_s = min(HANGING_EVERY_S, every_s * 2.0 ** min(30, max(0, self.hung - 1)))
        return not self.busy and (self.asked_at is None or now - self.asked_at >= wait_s)


@define(eq=False)
class SystemMonitor:
    """Reads the metrics. May be called from several threads; `monotonic` and `wall` are clocks in seconds.

    `on_answer` is called, in a thread, when a probe that was asked in the background has answered or failed.
    """

    platform: Platform
    folder: Path
    monotonic: Callable[[], float]
    psutil: PsutilProbes | None = None
    wall: Callable[[], float] | None = None
    low_disk_bytes: int = 0
    in_background: InBackground = in_a_thread
    on_answer: Callable[[], None] = lambda: None
    log = Logger()
    _cpu: dict[str, tuple[float, float]] = field(factory=dict, init=False)
    _counters: dict[tuple[str, str], tuple[float, Mapping[str, int]]] = field(factory=dict, init=False)
    _slow: dict[str, _Slow] = field(factory=dict, init=False)
    _failed: set[str] = field(factory=set, init=False)
    _lock: Any = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        # All of them now, so that another thread may look through them at any time.
        self._slow.update({name: _Slow() for name in self.platform.slow})
        # The first reading says nothing, the next one does.
        self._try("cpu_usage", lambda: self._cpu_usage(HEARTBEAT))
        self._try("cpu_usage", lambda: self._cpu_usage(POLICY))

    def read(self, reader: str = HEARTBEAT) -> dict[str, Any]:
        """`system_metrics` of the heartbeat message: percentages 0 to 100, seconds, bytes, degrees Celsius."""
        probes: dict[str, Probe] = {
            "cpu_usage": lambda: self._cpu_usage(reader),
            "memory_usage": self._memory_usage,
            "disk_usage": self._disk_usage,
            "load_average": self.platform.load_average,
            "uptime": self._uptime,
            "temperature": self._temperature,
            "battery": self._battery,
            "disk_io": lambda: self._rates(reader, "disk_io", self._disk_counters()),
            "network": lambda: self._rates(reader, "network", self._network_counters()),
            "throttling": lambda: self._asked("throttling", self.platform.throttling),
            "owner_away_s": self._owner_away,
            "metered": lambda: self._asked("metered", self.platform.metered),
            "problems": self._problems,
        }
        with self._lock:
            found = {name: self._try(name, probe) for name, probe in probes.items()}
        return {name: value for name, value in found.items() if value is not None and self._makes_sense(name, value)}

    def pending(self) -> frozenset[str]:
        """Probes that were asked and have not answered yet, never before: what they tell may be known in a moment."""
        return frozenset(name for name, slow in self._slow.items() if slow.busy and not slow.settled)

    def _try(self, name: str, probe: Probe) -> Any:
        try:
            return probe()
        except Exception as error:  # whatever a probe raises, it must not cost the others
            if name not in self._failed:
                self._failed.add(name)
                self.log.info("{name} cannot be read on this device: {why}", name=name, why=repr(error))
            return None

    def _makes_sense(self, name: str, value: Any) -> bool:
        """A sensor that says nonsense must not cost the device its heartbeats."""
        problems: list[Problem] = []
        SYSTEM_METRICS.by_name[name].type.check(value, name, problems)
        return not problems

    def _asked(self, name: str, probe: Probe) -> Any:
        """What a probe says: now, or, of one that starts a program, what it said last."""
        every_s = self.platform.slow.get(name)
        if every_s is None:
            return probe()
        slow = self._slow[name]
        now = self.monotonic()
        if slow.due(now, every_s):
            slow.asked_at, slow.busy = now, True
            try:
                self.in_background(lambda: self._answer(name, slow, probe))
            except Exception:  # no thread to be had: the next reading asks
                slow.asked_at, slow.busy = None, False
                raise
        known = slow.answered_at is not None and now - slow.answered_at < BELIEVED_S
        return slow.answer if known else None

    def _answer(self, name: str, slow: _Slow, probe: Probe) -> None:
        def asked() -> Any:
            try:
                found = probe()
            except TimeoutError:
                slow.hung += 1
                raise
            slow.hung = 0
            return found

        answer = self._try(name, asked)
        if answer is not None or not slow.hung:  # one that hangs has not said that it knows nothing
            slow.answer, slow.answered_at = answer, self.monotonic()
        slow.busy, slow.settled = False, True
        self.on_answer()

    # Probes

    def _cpu_usage(self, reader: str) -> float | None:
        times = self._first(self.platform.cpu_times, self.psutil.cpu_times if self.psutil else None)
        if times is None:
            return None
        before = self._cpu.get(reader)
        self._cpu[reader] = times
        if before is None or times[1] <= before[1]:
            return None  # one reading says nothing
        return _percent(100.0 * (times[0] - before[0]) / (times[1] - before[1]))

    def _memory_usage(self) -> float | None:
        return _percent(self._first(self.platform.memory_usage, self.psutil.memory_usage if self.psutil else None))

    def _disk_usage(self) -> float | None:
        disk = shutil.disk_usage(self.folder)
        return _percent(100.0 * disk.used / (disk.used + disk.free))

    def _uptime(self) -> float | None:
        uptime_s = self._first(self.platform.uptime_s, self._since_boot if self.psutil else None)
        return None if uptime_s is None else round(uptime_s, 1)

    def _since_boot(self) -> float | None:
        boot_at = self.psutil.boot_at() if self.psutil else None
        if boot_at is None or self.wall is None:
            return None
        uptime_s = self.wall() - boot_at
        return uptime_s if uptime_s >= 0.0 else None  # a clock that was set back knows nothing

    def _temperature(self) -> float | None:
        """Of the system's sensors; of the firmware where there are none."""
        known = self._try("sensors", lambda: self._first(self.platform.temperature_c, self._psutil_temperature))
        if known is None:
            known = self._asked("firmware_temperature", self.platform.firmware_temperature_c)
        found: float | None = known
        return found

    def _psutil_temperature(self) -> float | None:
        return self.psutil.temperature_c() if self.psutil else None

    def _battery(self) -> dict[str, Any] | None:
        more = self.psutil.battery if self.psutil else None
        found: dict[str, Any] | None = self._asked("battery", lambda: self._first(self.platform.battery, more))
        return found

    def _owner_away(self) -> float | None:
        away_s = self._asked("owner", lambda: self.platform.owner_away_s(self.wall()) if self.wall else None)
        return None if away_s is None else round(away_s, 1)

    def _disk_counters(self) -> Mapping[str, int] | None:
        found: Mapping[str, int] | None = self._first(
            self.platform.disk_io, self.psutil.disk_io if self.psutil else None
        )
        return found

    def _network_counters(self) -> Mapping[str, int] | None:
        more = self.psutil.network_io if self.psutil else None
        found: Mapping[str, int] | None = self._first(self.platform.network_io, more)
        return found

    def _problems(self) -> list[str] | None:
        """What a person should look at. An empty list where nothing is."""
        free_bytes = shutil.disk_usage(self.folder).free
        return [f"low disk: {format_bytes(free_bytes)} free"] if free_bytes < self.low_disk_bytes else []

    @staticmethod
    def _first(probe: Probe, other: Probe | None) -> Any:
        """What `probe` says; where it does not know or fails, what `other` says."""
        try:
            found = probe()
        except Exception:
            # Where the other one does not know either, it counts that this one failed, and how.
            found = None if other is None else other()
            if found is None:
                raise
            return found
        return other() if found is None and other is not None else found

    def _rates(self, reader: str, name: str, counters: Mapping[str, int] | None) -> dict[str, Any] | None:
        """The counters, and how they grow, as `..._per_s`."""
        if counters is None:
            return None
        now = self.monotonic()
        before = self._counters.get((reader, name))
        self._counters[reader, name] = (now, counters)
        found: dict[str, Any] = dict(counters)
        if before is not None and now > before[0]:
            for each, value in counters.items():
                grown = max(0, value - before[1].get(each, value))
                found[f"{each}_per_s"] = round(grown / (now - before[0]), 1)
        return found


def _percent(value: float | None) -> float | None:
    return None if value is None else round(min(100.0, max(0.0, float(value))), 1)
