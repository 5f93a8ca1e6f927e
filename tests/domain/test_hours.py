"""Windows of hours, through every change of daylight saving time of several zones."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.hours import DAYS, Window, open_now, parse_window

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu",
         "Africa/Casablanca", "Pacific/Chatham", "Antarctica/Troll")  # fmt: skip
"""Changes of an hour, of half an hour, of two hours; both hemispheres; none at all."""
YEARS = range(2024, 2028)


def transitions(zone: ZoneInfo) -> list[datetime]:
    """Instants (UTC, by the hour) at which the offset of a zone changes."""
    found = []
    at = datetime(YEARS[0], 1, 1, tzinfo=timezone.utc)
    offset = at.astimezone(zone).utcoffset()
    while at.year in YEARS:
        at += timedelta(hours=1)
        if at.astimezone(zone).utcoffset() != offset:
            offset = at.astimezone(zone).utcoffset()
            found.append(at)
    return found


def shown(window: str, local: datetime) -> bool:
    """Another way to say it: is what the clock shows between the two times, as text?"""
    days, _, hours = window.rpartition(" ")
    first, last = (hours.split("-")[index].rjust(5, "0") for index in (0, 1))
    clock, today = local.strftime("%H:%M"), local.strftime("%a")
    yesterday = DAYS[(local.weekday() - 1) % 7].capitalize()
    wanted = {"Mon-Fri": "Mon Tue Wed Thu Fri", "Sat,Sun": "Sat Sun", "": "Mon Tue Wed Thu Fri Sat Sun"}[days].split()
    if first < last:
        return today in wanted and first <= clock < last
    return (today in wanted and clock >= first) or (yesterday in wanted and clock < last)


@pytest.mark.parametrize("zone_name", ZONES)
@pytest.mark.parametrize("window", ["Mon-Fri 22:00-07:00", "Sat,Sun 02:00-03:00", "01:30-02:30", "00:00-24:00"])
def test_a_window_is_open_while_the_clock_on_the_wall_shows_it(zone_name: str, window: str) -> None:
    zone, parsed = ZoneInfo(zone_name), [parse_window(window)]
    looked = 0
    for change in transitions(zone) or [datetime(2026, 3, 29, 1, tzinfo=timezone.utc)]:
        for minute in range(-26 * 60, 26 * 60, 3):
            local = (change + timedelta(minutes=minute)).astimezone(zone)
            assert open_now(parsed, local) == shown(window, local), local
            looked += 1
    assert looked > 1000


def test_an_hour_that_is_skipped_opens_nothing_and_one_shown_twice_counts_twice() -> None:
    zone, window = ZoneInfo("Europe/Berlin"), [parse_window("02:00-03:00")]

    def open_minutes(day: datetime) -> int:
        begin = day.astimezone(timezone.utc)
        return sum(
            bool(open_now(window, (begin + timedelta(minutes=each)).astimezone(zone))) for each in range(25 * 60)
        )

    assert open_minutes(datetime(2026, 3, 29, tzinfo=zone)) == 0
    assert open_minutes(datetime(2026, 10, 25, tzinfo=zone)) == 120
    assert open_minutes(datetime(2026, 7, 1, tzinfo=zone)) == 60


def test_a_night_over_a_change_is_one_stretch() -> None:
    """Whatever the clock does in the night, work begins once and ends once."""
    window = [parse_window("22:00-07:00")]
    for zone_name in ZONES:
        zone = ZoneInfo(zone_name)
        for change in transitions(zone):
            noon = (change - timedelta(hours=18)).astimezone(zone).replace(hour=12, minute=0)
            begin = noon.astimezone(timezone.utc)
            states = [open_now(window, (begin + timedelta(minutes=each)).astimezone(zone)) for each in range(24 * 60)]
            changes = sum(one != other for one, other in pairwise(states))
            assert changes == 2, (zone_name, change)


@given(st.sets(st.integers(0, 6), min_size=1), st.integers(0, 1439), st.integers(0, 1440))
def test_a_week_has_as_many_minutes_as_its_windows(days: set[int], begin: int, end: int) -> None:
    if begin == end % 1440 and end != 1440:
        return
    window = Window(frozenset(days), begin, end)
    length = (end - begin) if begin < end else 1440 - begin + end
    count = sum(window.open_at(minute // 1440, minute % 1440) for minute in range(7 * 1440))
    assert count == len(days) * length


@pytest.mark.parametrize(
    ("text", "days", "begin", "end"),
    [
        ("Mon-Fri 22:00-07:00", {0, 1, 2, 3, 4}, 1320, 420),
        ("fri-mon 1:00 - 2:30", {4, 5, 6, 0}, 60, 150),
        ("Sat, Sun 00:00-24:00", {5, 6}, 0, 1440),
        ("Monday-Wednesday 9:00-17:00", {0, 1, 2}, 540, 1020),
        ("Wed 22:00-00:00", {2}, 1320, 0),
        ("12:00-13:00", set(range(7)), 720, 780),
    ],
)
def test_reading(text: str, days: set[int], begin: int, end: int) -> None:
    assert parse_window(text) == Window(frozenset(days), begin, end)


@pytest.mark.parametrize(
    "text", ["", "Mon", "25:00-26:00", "12:60-13:00", "Fry 1:00-2:00", "1:00-1:00", "1-2", "24:01-2:00"]
)
def test_what_is_no_window(text: str) -> None:
    with pytest.raises(ValueError, match=r"window|time|day"):
        parse_window(text)


def test_a_clock_that_was_never_set_knows_nothing() -> None:
    assert open_now([parse_window("00:00-24:00")], datetime(1970, 1, 1, 5, tzinfo=timezone.utc)) is None
