"""What devices reported, kept for a while: the last two hours by the minute, a week by the hour, 90 days by the day.

Each device has three rings of rows, one row a step, one column a metric. A row of the minute ring is the mean of the
reports in that minute; rows of hours and days are means of the rows below them. What was not reported stays unknown.

A value takes two bytes: the upper half of a 32-bit float (bfloat16), which is right to 0.6 % and has its whole range. A
ring that is full has 8,700 bytes for a device in all; it grows with what is in it.

Time is the caller's monotonic clock, in seconds: a wall clock that jumps tears no hole. Whoever asks gets ages.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from math import nan
from typing import Any

from attrs import define, field, frozen

COLUMNS = (
    "cpu_usage",
    "memory_usage",
    "disk_usage",
    "temperature",
    "battery_level",
    "load",
    "disk_read_bytes_per_s",
    "disk_write_bytes_per_s",
    "network_received_bytes_per_s",
    "network_sent_bytes_per_s",
    "active_tasks",
)
WIDTH = len(COLUMNS)
UNKNOWN = 0x7FC0
"""Not a number, as the upper half of a float."""
HALF_A_STEP = 1.0 + 2.0**-9
"""A value times this, cut after its upper half, is the value rounded."""
_ROW = struct.Struct(f"={WIDTH}f")
_UPPER = 1 if sys.byteorder == "little" else 0
_NOTHING = array("H", [UNKNOWN] * WIDTH)


@frozen
class Level:
    """A resolution: how long a step is, and how many of them are kept."""

    name: str
    step_s: float
    steps: int

    @property
    def window_s(self) -> float:
        return self.step_s * self.steps


MINUTES, HOURS, DAYS = Level("minute", 60.0, 120), Level("hour", 3600.0, 168), Level("day", 86_400.0, 90)
LEVELS = (MINUTES, HOURS, DAYS)


def packed(values: Sequence[float | None]) -> array[int]:
    """A row of WIDTH values (of checked metrics: none is beyond 1e15), two bytes each; None becomes UNKNOWN."""
    row = _ROW.pack(*(nan if value is None else value * HALF_A_STEP for value in values))
    return array("H", row)[_UPPER::2]


def unpacked(row: array[int]) -> tuple[float, ...]:
    """The values of a row; what is unknown is not a number."""
    halves = array("H", bytes(4 * WIDTH))
    halves[_UPPER::2] = row
    return _ROW.unpack(halves.tobytes())


def shown(value: float) -> float | None:
    """A value as people get it: the three digits that are right, None for what is unknown."""
    return None if value != value else float(f"{value:.3g}")


def row_of(metrics: Mapping[str, Any], active_tasks: int) -> tuple[float | None, ...]:
    """The columns of one report: checked system metrics of a heartbeat."""
    battery = metrics.get("battery")
    load = metrics.get("load_average") or (None,)
    disk, network = metrics.get("disk_io") or {}, metrics.get("network") or {}
    return (
        metrics.get("cpu_usage"),
        metrics.get("memory_usage"),
        metrics.get("disk_usage"),
        metrics.get("temperature"),
        battery.get("level") if isinstance(battery, Mapping) else battery,
        load[0],
        disk.get("read_bytes_per_s"),
        disk.get("write_bytes_per_s"),
        network.get("received_bytes_per_s"),
        network.get("sent_bytes_per_s"),
        float(active_tasks),
    )


@define(eq=False, slots=True)
class Ring:
    """Rows of one level, the oldest overwritten first. `last` is the number of the step of the newest row."""

    steps: int
    rows: array[int] = field(factory=lambda: array("H"))
    last: int = -1

    def put(self, step: int, row: array[int]) -> None:
        """Add the row of a step; steps in between are unknown. One that is not later is mixed into the newest row."""
        if self.rows and step <= self.last:
            row = _mean_row([self.rows[-WIDTH:], row])
            del self.rows[-WIDTH:]
            step = self.last
        missing = max(0, step - self.last - 1) if self.last >= 0 else 0
        if missing >= self.steps:
            self.rows = array("H")
        else:
            self.rows.extend(_NOTHING * missing)
        self.rows.extend(row)
        del self.rows[: max(0, len(self.rows) - self.steps * WIDTH)]
        self.last = step

    def __len__(self) -> int:
        return len(self.rows) // WIDTH

    def __iter__(self) -> Iterator[tuple[int, array[int]]]:
        """(step, row), the oldest first."""
        return self._newest(self.steps)

    def mean(self, first: int, end: int) -> array[int] | None:
        """The mean of the rows of steps from `first` to before `end`; None if there is none."""
        chosen = [row for step, row in self._newest(self.last - first + 1) if first <= step < end]
        return _mean_row(chosen) if chosen else None

    def _newest(self, steps: int) -> Iterator[tuple[int, array[int]]]:
        count = len(self)
        for index in range(max(0, count - steps), count):
            yield self.last - count + 1 + index, self.rows[index * WIDTH : (index + 1) * WIDTH]


@define(eq=False, slots=True)
class DeviceHistory:
    """The rings of one device, and the minute that is not over yet."""

    minutes: Ring = field(factory=lambda: Ring(MINUTES.steps))
    hours: Ring = field(factory=lambda: Ring(HOURS.steps))
    days: Ring = field(factory=lambda: Ring(DAYS.steps))
    _minute: int = -1
    _reports: int = 0
    _sums: array[float] | None = None
    _counts: array[int] | None = None

    def add(self, values: Sequence[float | None], now: float) -> None:
        """Take in a report. Reports come in the order of time; one from before the last is taken as of then."""
        minute = max(int(now // MINUTES.step_s), self._minute)
        if minute != self._minute:
            self.close_minute()
            self._minute = minute
        if self._sums is None or self._counts is None:
            self._sums, self._counts = array("d", [0.0] * WIDTH), array("H", [0] * WIDTH)
        for index, value in enumerate(values):
            if value is not None and self._counts[index] < 0xFFFF:
                self._sums[index] += value
                self._counts[index] += 1

    def close_minute(self) -> None:
        """The minute is over: its means become a row, and hours and days that are over before it, too."""
        row = self.open_row()
        if row is None:
            return
        self._sums = self._counts = None
        _close(self.minutes, self.hours, self._minute, 60)
        _close(self.hours, self.days, self._minute // 60, 24)
        self.minutes.put(self._minute, row)

    def open_row(self) -> array[int] | None:
        """The means of the minute that is not over yet; None if nothing was reported in it."""
        if self._sums is None or self._counts is None:
            return None
        return packed([total / count if count else None for total, count in zip(self._sums, self._counts, strict=True)])

    def rows(self, level: Level) -> Iterator[tuple[int, array[int]]]:
        """(step, row) of a level, the oldest first; steps that are not over come last, of what is known of them."""
        ring = {MINUTES: self.minutes, HOURS: self.hours, DAYS: self.days}[level]
        yield from ring
        last = ring.last
        for step, row in self._open(level):
            silent = range(max(last + 1, step - level.steps), step) if last >= 0 else ()
            yield from ((each, _NOTHING) for each in silent)
            yield step, row
            last = step

    def _open(self, level: Level) -> Iterator[tuple[int, array[int]]]:
        """Steps that the ring of a level has not got yet: means of the rows of the finer one."""
        if level is MINUTES:
            row = self.open_row()
            if row is not None:
                yield self._minute, row
            return
        finer, ratio, ring = (MINUTES, 60, self.hours) if level is HOURS else (HOURS, 24, self.days)
        later = ((step, row) for step, row in self.rows(finer) if step // ratio > ring.last)
        for step, rows in groupby(later, key=lambda each: each[0] // ratio):
            yield step, _mean_row([row for _, row in rows])


def _close(fine: Ring, coarse: Ring, step: int, ratio: int) -> None:
    """Before the finer ring gets a row for `step`: the coarser step that its last row lies in may be over."""
    done = fine.last // ratio
    if fine.last < 0 or done >= step // ratio or done <= coarse.last:
        return
    row = fine.mean(done * ratio, (done + 1) * ratio)
    if row is not None:
        coarse.put(done, row)


def _mean_row(rows: Sequence[array[int]]) -> array[int]:
    return packed([_mean(column) for column in zip(*map(unpacked, rows), strict=True)])


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else None


@frozen
class Points:
    """What is known of a device in a window: (age_s, values by column), the oldest first."""

    level: Level
    points: list[tuple[float, dict[str, float | None]]]


BEGINNING_S = 12_000 * DAYS.step_s
"""Added to the clock, so that the past of an earlier life of the main is not before its beginning."""


@define(eq=False)
class History:
    """The histories of all devices. `now` is monotonic seconds, of one clock.

    Rows are numbered by that clock plus `beginning_s`. Over a restart it is this that changes, and never a row: whole
    hours and days stay what they are, however often the main starts.
    """

    devices: dict[str, DeviceHistory] = field(factory=dict)
    beginning_s: float = BEGINNING_S

    def add(self, device_id: str, metrics: Mapping[str, Any], active_tasks: int, now: float) -> None:
        """Take in what a heartbeat said."""
        found = self.devices.get(device_id)
        if found is None:
            found = self.devices[device_id] = DeviceHistory()
        found.add(row_of(metrics, active_tasks), self.beginning_s + now)

    def forget(self, device_id: str) -> None:
        """A device was removed."""
        self.devices.pop(device_id, None)

    def read(self, device_id: str, window_s: float, now: float) -> Points:
        """What is kept of the last `window_s` seconds, at the finest resolution that reaches so far back."""
        level = next((each for each in LEVELS if each.window_s >= window_s), DAYS)
        found = self.devices.get(device_id)
        points = []
        for step, row in found.rows(level) if found is not None else ():
            age_s = max(0.0, self.beginning_s + now - step * level.step_s)
            if age_s <= window_s + level.step_s:
                points.append((age_s, dict(zip(COLUMNS, map(shown, unpacked(row)), strict=True))))
        return Points(level, points[-(level.steps + 1) :])
