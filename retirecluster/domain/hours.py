"""Hours of the week, as people write them: `Mon-Fri 22:00-07:00`.

A window is open while a clock on the wall, in the zone that is meant, shows a time in it. That is the whole rule, and
it holds through changes of daylight saving time: an hour that the clock skips opens nothing, and one that it shows
twice counts twice. Days are those on which a window begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from attrs import frozen

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60
EXAMPLE = "Mon-Fri 22:00-07:00"
_WINDOW = re.compile(r"(?:([A-Za-z,\s-]+?)\s+)?(\d{1,2}):(\d{2})\s*-\s*(\d{1,2}):(\d{2})")
EARLIEST_YEAR = 2024
"""A clock that shows an earlier year was never set."""


@frozen
class Window:
    """Days (0 is Monday) on which it begins, and minutes of the day. An end before its begin is on the next day."""

    days: frozenset[int]
    begin_min: int
    end_min: int

    def open_at(self, weekday: int, minute: int) -> bool:
        """Whether a wall clock that shows this is inside."""
        if self.begin_min < self.end_min:
            return weekday in self.days and self.begin_min <= minute < self.end_min
        today = weekday in self.days and minute >= self.begin_min
        return today or ((weekday - 1) % 7 in self.days and minute < self.end_min)


def parse_window(text: str) -> Window:
    """A window as people write it; without days, every day. Raises ValueError that says what is allowed."""
    match = _WINDOW.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!a} is no window of hours; write for example {EXAMPLE}")
    begin_min, end_min = _minute(match[2], match[3], text), _minute(match[4], match[5], text)
    if begin_min == end_min % DAY_MIN and end_min != DAY_MIN:
        raise ValueError(f"{text!a} begins and ends at the same time; the whole day is 00:00-24:00")
    return Window(_days(match[1] or "mon-sun", text), begin_min, end_min)


def _minute(hours: str, minutes: str, text: str) -> int:
    found = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or found > DAY_MIN:
        raise ValueError(f"{text!a}: {hours}:{minutes} is no time of day")
    return found


def _days(text: str, whole: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = (each.strip().lower()[:3] for each in part.partition("-"))
        if first not in DAYS or (last and last not in DAYS):
            raise ValueError(f"{whole!a}: {part.strip()!a} is no day; days are Mon Tue Wed Thu Fri Sat Sun")
        start = DAYS.index(first)
        length = (DAYS.index(last or first) - start) % 7 + 1
        found.update((start + offset) % 7 for offset in range(length))
    return frozenset(found)


def open_now(windows: Sequence[Window], local: datetime) -> bool | None:
    """Whether any window is open; None (unknown) on a clock that was never set."""
    if local.year < EARLIEST_YEAR:
        return None
    minute = local.hour * 60 + local.minute
    return any(window.open_at(local.weekday(), minute) for window in windows)
