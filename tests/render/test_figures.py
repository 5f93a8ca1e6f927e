"""Bars, gauges, courses, grids, themes and ASCII: never wider than asked, and what they say is so."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.commands.local_table import THEMES as TERMINAL_THEMES
from retirecluster.render import answers
from retirecluster.render.cells import CUT, text_width, visible
from retirecluster.render.figures import FREE, FULL, SPARKS, gauge, painted, sparkline
from retirecluster.render.plain_ascii import in_ascii
from retirecluster.render.styles import STATUS_STYLES, STYLES, THEMES, event_style, status_styled, styled
from retirecluster.render.views import Style, View, lines_of, text_of

SGR = re.compile(r"\x1b\[[0-9;]*m")
NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
names = st.text(min_size=1, max_size=25) | st.sampled_from(
    ["phone", "日本語のデバイス名前がここに", "👩\u200d👧", "e\u0301" * 20, "\x1b[2J"]
)
loads = st.none() | st.floats(0, 100)
devices = st.lists(
    st.fixed_dictionaries(
        {"device_id": names, "status": st.sampled_from([*STATUS_STYLES, "other"]), "cpu_usage": loads}
    ),
    max_size=9,
)
statuses = st.fixed_dictionaries(
    {
        "devices": st.just({"total": 3, "online": 2}),
        "cpu_usage": loads,
        "memory_usage": loads,
        "slots": st.fixed_dictionaries({"busy": st.integers(0, 4), "total": st.integers(0, 4)}),
        "tasks": st.just({"running": 1}),
    }
)
tasks = st.lists(
    st.fixed_dictionaries(
        {
            "task_id": names,
            "status": st.just("running"),
            "task_type": names,
            "device_id": names,
            "started_at": st.just("2025-12-31T23:59:00Z"),
            "progress": st.none() | st.fixed_dictionaries({"percent": loads, "message": names}),
        }
    ),
    max_size=4,
)
points = st.lists(
    st.fixed_dictionaries(
        {"completed_per_s": st.floats(0, 1e6), "waiting": st.integers(0, 10**6), "mean_wait_s": loads}
    ),
    max_size=400,
)
views: st.SearchStrategy[View] = st.one_of(
    st.tuples(statuses, devices).map(lambda each: answers.device_grid(*each)),
    st.tuples(statuses, tasks).map(lambda each: answers.task_progress(*each, NOW)),
    points.map(lambda found: answers.metrics_course({"a": 1}, {"points": found})),
    statuses.map(answers.cluster_status),
)


@given(views, st.integers(2, 200), st.sampled_from([*THEMES]), st.booleans())
def test_nothing_is_wider_than_asked_in_any_theme(view: View, width: int, theme: str, ascii_alone: bool) -> None:
    coloured = lines_of(view, Style(width, True, theme=theme, ascii=ascii_alone))
    bare = [SGR.sub("", line) for line in coloured]
    assert all(text_width(line) <= width for line in bare)
    assert all(line.isprintable() for line in bare)
    # Colours are all that colours change.
    assert [line.rstrip() for line in bare] == [
        line.rstrip() for line in lines_of(view, Style(width, ascii=ascii_alone))
    ]
    assert not ascii_alone or all(line.isascii() for line in coloured)
    assert theme != "none" or coloured == bare


@given(devices, st.integers(1, 200))
def test_each_device_is_in_the_grid_or_visibly_cut(found: list[dict[str, Any]], width: int) -> None:
    shown = "\n".join(lines_of(answers.device_grid({}, found), Style(width)))
    for each in found:
        assert visible(each["device_id"]).strip() in shown or CUT in shown


@given(st.floats(-10, 200), st.integers(4, 40))
def test_gauges_have_their_width_and_are_full_at_the_end_alone(percent: float, width: int) -> None:
    drawn = gauge(percent, width)
    assert text_width(drawn) == width + 5
    assert (FREE not in drawn) == (percent >= 100) and (FULL in drawn) == (percent > 0)


@given(st.lists(st.none() | st.floats(0, 1e9), max_size=300), st.integers(1, 80))
def test_courses_keep_the_peak_the_newest_and_the_width(values: list[float | None], width: int) -> None:
    drawn = sparkline(values, width)
    assert len(drawn) == text_width(drawn) <= width
    assert set(drawn) <= {*SPARKS, " "}
    known = [each for each in values if each is not None]
    if known and max(known) > 0:
        assert SPARKS[-1] in drawn
    if values and values[-1] is not None and len(values) <= width:
        assert drawn[-1] != " "


def test_figures_look_as_they_should() -> None:
    assert gauge(42, 8) == "███░░░░░  42%"
    assert sparkline([0, 1, None, 2, 4], 10) == "▁▃ ▅█"
    assert sparkline([1, 9, 2, 2, 0, 0], 3, most=10) == "▇▂▁"
    grid = answers.device_grid({}, [{"device_id": "pi", "status": "online", "cpu_usage": 50}] * 2)
    assert lines_of(grid, Style(70))[-1] == f"● {'pi':18} ███░░░  50%   ● {'pi':18} ███░░░  50%"


def test_a_full_gauge_is_seen_to_be() -> None:
    assert painted(gauge(10, 4)).startswith("\x1b[32m") and painted(gauge(75, 4)).startswith("\x1b[33m")
    assert painted(gauge(95, 4)).startswith("\x1b[31m") and painted("━━╌╌") == "\x1b[36m━━\x1b[0m\x1b[2m╌╌\x1b[0m"


def test_themes_have_every_style_and_the_terminal_every_theme() -> None:
    assert all(set(theme) == set(STYLES) for theme in THEMES.values())
    assert set(TERMINAL_THEMES) <= set(THEMES)
    assert set(STATUS_STYLES.values()) - {""} <= set(STYLES)
    for theme in THEMES:
        assert SGR.sub("", styled("x", "red", theme)) == "x"
        assert theme == "none" or status_styled("failed", theme) != status_styled("completed", theme)
    assert styled("x", "bold", "none") == "x"


@pytest.mark.parametrize(
    ("event", "document", "style"),
    [
        ("task_update", {"status": "failed"}, "red"),
        ("device_offline", {}, "red"),
        ("completed", {}, "green"),
        ("task_update", {"status": 3}, ""),
    ],
)
def test_events_have_the_colour_of_what_they_led_to(event: str, document: dict[str, Any], style: str) -> None:
    assert event_style(event, document) == style


@given(st.text(max_size=30))
def test_ascii_takes_as_many_cells(text: str) -> None:
    shown = visible(text)
    plain = in_ascii(shown)
    assert plain.isascii() and text_width(plain) == text_width(shown)


def test_programs_get_the_devices_of_a_grid() -> None:
    found = [{"device_id": "pi", "status": "online", "cpu_usage": 50}]
    assert text_of(answers.device_grid({}, found), "csv", Style()).splitlines()[1].startswith("pi,online,")
