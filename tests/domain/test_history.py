"""The rings of the devices' histories: means, roll-ups, gaps, precision, size, and the file that keeps them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retirecluster.domain.history import (
    COLUMNS,
    DAYS,
    HOURS,
    MINUTES,
    WIDTH,
    DeviceHistory,
    History,
    packed,
    shown,
    unpacked,
)
from retirecluster.store.history import decode, encode, save

HOUR_S, DAY_S = 3600.0, 86_400.0


def cpu(history: History, window_s: float, now: float) -> list[tuple[float, float | None]]:
    """(age in steps, cpu) of what is read."""
    found = history.read("d", window_s, now)
    return [(age_s // found.level.step_s, values["cpu_usage"]) for age_s, values in found.points]


def report(history: History, now: float, cpu_usage: float | None, **metrics: Any) -> None:
    history.add("d", {"cpu_usage": cpu_usage, **metrics}, 0, now)


@given(st.lists(st.none() | st.floats(-1e15, 1e15), min_size=WIDTH, max_size=WIDTH))
def test_two_bytes_are_right_to_two_digits_and_a_half(values: list[float | None]) -> None:
    row = packed(values)
    assert len(row) == WIDTH and row.itemsize == 2
    for value, exact in zip(values, unpacked(row), strict=True):
        assert (value is None) == (exact != exact)
        if value is not None:
            assert abs(exact - value) <= 0.006 * abs(value) + 1e-37


def test_what_is_kept_of_a_value() -> None:
    values = [None, float("nan"), 0.0, 100.0, 55.2, 1e15, 0.07, -40.0, 1.0, 2.0, 3.0]
    found = [shown(value) for value in unpacked(packed(values))]
    assert found[:4] == [None, None, 0.0, 100.0] and found[7:] == [-40.0, 1.0, 2.0, 3.0]
    assert [found[4], found[6]] == [pytest.approx(55.2, rel=0.005), pytest.approx(0.07, rel=0.005)]


def test_a_minute_is_the_mean_of_its_reports() -> None:
    history = History()
    for second, value in ((0, 10), (20, 20), (40, 60), (60, 90), (61, None)):
        report(history, float(second), value)
    assert cpu(history, 600, 65.0) == [(1, 30.0), (0, 90.0)]


def test_a_silent_device_leaves_a_gap_and_not_a_zero() -> None:
    history = History()
    report(history, 0.0, 10)
    report(history, 300.0, 50)
    assert [value for _, value in cpu(history, 600, 310.0)] == [10, None, None, None, None, 50]


def test_hours_and_days_are_means_of_what_is_below_them() -> None:
    history = History()
    for minute in range(2 * 24 * 60 + 5):
        report(history, minute * 60.0, float(minute // 60 % 24))
    now = (2 * 24 * 60 + 5) * 60.0
    hours = cpu(history, 2 * DAY_S, now)
    assert [value for _, value in hours] == [*(float(hour % 24) for hour in range(48)), 0.0]
    assert [value for _, value in cpu(history, 90 * DAY_S, now)] == [11.5, 11.5, 0.0], "today is not over"


@pytest.mark.parametrize("window_s", [3 * HOUR_S, 7 * DAY_S, 90 * DAY_S])
def test_a_device_that_has_reported_for_some_minutes_is_in_every_window(window_s: float) -> None:
    history = History()
    for minute in range(12):
        report(history, minute * 60.0, 30.0)
    assert cpu(history, window_s, 720.0) == [(0, 30.0)]


def test_what_is_not_over_is_in_the_hour_and_in_the_day() -> None:
    history = History()
    for minute in range(90):
        report(history, minute * 60.0, 10.0 if minute < 60 else 50.0)
    now = 90 * 60.0
    assert [value for _, value in cpu(history, DAY_S, now)] == [10.0, 50.0]
    assert [value for _, value in cpu(history, 30 * DAY_S, now)] == [30.0]
    report(history, 5 * HOUR_S, 70.0)
    assert [value for _, value in cpu(history, DAY_S, 5 * HOUR_S)] == [10.0, 50.0, None, None, None, 70.0]


@pytest.mark.parametrize("level", [MINUTES, HOURS, DAYS])
def test_each_resolution_reaches_as_far_as_it_says(level: Any) -> None:
    history, now = History(), 0.0
    step_s = min(level.step_s, HOUR_S)
    while now < 1.2 * level.window_s:
        report(history, now, 50.0)
        now += step_s
    found = history.read("d", level.window_s, now)
    assert found.level is level and level.steps - 2 <= len(found.points) <= level.steps + 1
    assert {values["cpu_usage"] for _, values in found.points} == {50.0}


def test_a_full_history_has_the_size_that_is_documented() -> None:
    history = DeviceHistory()
    minute = 0
    while minute < 100 * 24 * 60:
        history.add([1.0] * WIDTH, minute * 60.0)
        minute += 1 if minute > 99.9 * 24 * 60 else 60
    rows = (history.minutes, history.hours, history.days)
    assert [len(ring) for ring in rows] == [120, 168, 90]
    assert sum(len(ring.rows) * ring.rows.itemsize for ring in rows) == 8316


@given(st.lists(st.tuples(st.floats(0, 1e5), st.none() | st.floats(0, 100)), max_size=60))
def test_whatever_the_times_it_neither_fails_nor_grows(reports: list[tuple[float, float | None]]) -> None:
    history, now = History(), 0.0
    for step, value in reports:
        now += step
        report(history, now, value, battery=value, load_average=[value] if value is not None else None)
        report(history, now - 1000.0, value)  # late
    for level in (MINUTES, HOURS, DAYS):
        points = history.read("d", level.window_s, now).points
        assert len(points) <= level.steps + 1
        ages = [age_s for age_s, _ in points]
        assert ages == sorted(ages, reverse=True)
        assert all(values[name] is None or 0 <= values[name] <= 101 for _, values in points for name in COLUMNS)


def test_a_device_without_reports_or_removed_has_no_points() -> None:
    history = History()
    assert history.read("nobody", 60, 0.0).points == []
    report(history, 0.0, 1)
    history.forget("d")
    assert history.read("d", 60, 0.0).points == []


# The file


def kept(history: History, *, now: float, wall_s: float, later_s: float, then: float) -> History:
    """Written, and read `later_s` seconds later on a clock that shows `then`."""
    return decode(b"".join(encode(history, now, wall_s)), then, wall_s + later_s)


def test_a_restart_keeps_the_past_where_it_was() -> None:
    history = History()
    for minute in range(3 * 60):
        report(history, 5e5 + minute * 60.0, float(minute))
    now = 5e5 + 3 * HOUR_S
    again = kept(history, now=now, wall_s=1e9, later_s=600, then=42.0)
    report(again, 42.0, 7.0)
    points = cpu(again, 2 * HOUR_S, 42.0)
    assert points[-1] == (0, 7.0)
    assert [value for _, value in points[-11:-1]][-9:] == [None] * 9, "the ten minutes in which nobody was there"
    (age,) = [age for age, value in points if value == 179.0]
    assert 10 <= age <= 12
    assert len(cpu(again, 7 * DAY_S, 42.0)) >= 2


@given(st.integers(0, 2), st.integers(0, 3600))
@settings(max_examples=20, deadline=None)
def test_reboots_do_not_thin_the_hours_and_days(down_h: int, odd_s: int) -> None:
    """The main is up for eight hours and off for some, over and over: what it saw is there, where it was."""
    history, boot_s, wall_s = History(), 777.0 + odd_s, 1.8e9
    begun_s = wall_s
    for _ in range(20):
        for minute in range(8 * 60):
            report(history, boot_s + minute * 60.0, 40.0)
        later_s = down_h * HOUR_S + odd_s
        up_until, wall_s = boot_s + 8 * HOUR_S, wall_s + 8 * HOUR_S
        boot_s = 5.0 + odd_s  # each boot counts from anew
        history = kept(history, now=up_until, wall_s=wall_s, later_s=later_s, then=boot_s)
        wall_s += later_s
    report(history, boot_s, 40.0)
    days = cpu(history, 90 * DAY_S, boot_s)
    whole_days = int((wall_s - begun_s) // DAY_S)
    assert whole_days <= len(days) <= whole_days + 2
    assert {value for _, value in days} == {40.0}
    hours = [value for _, value in cpu(history, 7 * DAY_S, boot_s)]
    seen = sum(value is not None for value in hours)
    up = 160 * min(1.0, 168 / ((wall_s - begun_s) / HOUR_S))
    assert up - 2 <= seen <= up + 22, "each boot may touch one hour more"


def test_a_restart_within_a_minute_mixes_it() -> None:
    history = History()
    report(history, 0.0, 10.0)
    report(history, 60.0, 20.0)
    again = kept(history, now=70.0, wall_s=1e9, later_s=1.0, then=5.0)
    report(again, 5.0, 40.0)
    report(again, 5.0 + 60.0, 80.0)
    assert [value for _, value in cpu(again, 600, 70.0)] == [10.0, 30.0, 80.0]


def test_a_clock_that_went_back_loses_nothing() -> None:
    history = History()
    report(history, 1000.0, 5.0)
    again = kept(history, now=1000.0, wall_s=1.8e9, later_s=-1.7e9, then=10.0)
    assert [value for _, value in cpu(again, 600, 10.0)] == [5.0]


@pytest.mark.parametrize("damage", ["cut", "empty", "layout", "garbage", "counts"])
def test_a_file_that_is_not_whole_is_none(damage: str) -> None:
    history = History()
    report(history, 100.0, 5.0)
    data = b"".join(encode(history, 100.0, 1e9))
    broken = {
        "cut": data[:-3],
        "empty": b"",
        "layout": data.replace(b"cpu_usage", b"cpu_usagf"),
        "garbage": b"\x00\xff" * 100,
        "counts": data.replace(b'"rows": [1', b'"rows": [999'),
    }[damage]
    with pytest.raises(ValueError):
        decode(broken, 100.0, 1e9)


def test_the_file_is_replaced_whole(tmp_path: Any) -> None:
    place = tmp_path / "history.bin"
    for text in (b"one", b"two"):
        save(place, [text, text])
    assert place.read_bytes() == b"twotwo" and [each.name for each in tmp_path.iterdir()] == ["history.bin"]
