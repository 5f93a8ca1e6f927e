"""Units, retry, lifecycle: small rules and their properties."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.lifecycle import FINAL, TRANSITIONS, IllegalTransition, State, check_step, mermaid
from retirecluster.domain.retry import CAP_S, backoff_bound_s, backoff_s
from retirecluster.domain.units import format_bytes, format_duration, format_instant, parse_duration_s


@given(st.integers(0, 10_000_000))
def test_shown_durations_are_read_back_closely(seconds: int) -> None:
    shown = parse_duration_s(format_duration(seconds))
    assert abs(shown - seconds) <= max(1.0, 0.05 * seconds)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5h", 5400), ("2m30s", 150), ("250ms", 0.25), (" 1D ", 86400)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-5", "5x", "1e9", "1 2", "h"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration_s(text)


def test_sizes_and_instants() -> None:
    assert [format_bytes(size) for size in (0, 1536, 2**34, 2**51)] == ["0 B", "1.5 KiB", "16 GiB", "2.05e+03 TiB"]
    assert format_instant(1700000000.5) == "2023-11-14T22:13:20.500Z"
    assert format_instant(None) is None


@given(st.integers(1, 100), st.randoms(use_true_random=False))
def test_backoff_stays_within_its_bound(charged: int, random: Random) -> None:
    assert 0 <= backoff_s(charged, random) <= backoff_bound_s(charged) <= CAP_S
    assert backoff_bound_s(charged) <= backoff_bound_s(charged + 1)


def test_nothing_leads_out_of_a_final_state() -> None:
    assert not any(row.sources & FINAL for row in TRANSITIONS)


def test_every_state_is_reached_and_left() -> None:
    reached = {target for row in TRANSITIONS for target in row.targets}
    left = {source for row in TRANSITIONS for source in row.sources}
    assert reached | {State.BLOCKED, State.QUEUED} == set(State)
    assert left == set(State) - FINAL


def test_steps_outside_the_table_are_refused() -> None:
    check_step("grant", State.QUEUED, State.ASSIGNED)
    for event, source, target in (
        ("grant", State.RUNNING, State.ASSIGNED),
        ("result_ok", State.CANCELLED, State.COMPLETED),
        ("refused", State.ASSIGNED, State.FAILED),
    ):
        with pytest.raises(IllegalTransition):
            check_step(event, source, target)


def test_the_diagram_has_every_step() -> None:
    diagram = mermaid()
    for row in TRANSITIONS:
        for source in row.sources:
            for target in row.targets:
                assert f"    {source} --> {target}: {row.event}\n" in diagram
