"""The trust ledger: its score is bounded, falls with what is bad, rises with time, and survives garbage."""

from __future__ import annotations

import math
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.trust import (
    BAD,
    HALF_LIFE_S,
    QUARANTINE_BELOW,
    RELEASE_ABOVE,
    Blame,
    TrustLedger,
    aged,
    entered,
    ledger_document,
    ledger_from,
    reason_for,
    released,
    scaled,
    score,
    with_wear,
    worn_of,
)

GARBAGE = st.one_of(
    st.floats(),
    st.integers(),
    st.text(max_size=5),
    st.none(),
    st.booleans(),
    st.lists(st.integers(), max_size=2),
    st.just(10**400),
)
FIGURES = st.floats(0, 1e6)
LEDGERS = st.builds(
    TrustLedger,
    flaps=FIGURES,
    crashes=FIGURES,
    throttled_h=FIGURES,
    wrong=FIGURES,
    good=FIGURES,
    worn=st.floats(0, 1),
    as_of_s=st.floats(0, 1e9),
)
EVENTS = st.lists(st.tuples(st.sampled_from(list(Blame)), st.floats(), st.floats()), max_size=30)


@given(EVENTS)
def test_the_score_is_between_zero_and_one(events: list[Any]) -> None:
    """Whatever is entered, whenever, and however much of it."""
    ledger = TrustLedger()
    for what, running_s, amount in events:
        ledger = entered(ledger, what, running_s, amount)
        assert 0 < score(ledger) <= 1
        assert reason_for(ledger)


@given(LEDGERS, st.sampled_from([Blame(name) for name in BAD]), st.floats(0, 1e6))
def test_more_that_is_bad_never_raises_it(ledger: TrustLedger, what: Blame, amount: float) -> None:
    assert score(entered(ledger, what, ledger.as_of_s, amount)) <= score(ledger)
    assert score(with_wear(ledger, min(1.0, ledger.worn + amount))) <= score(ledger)


@given(LEDGERS, st.floats(0, 1e6))
def test_good_results_never_lower_it(ledger: TrustLedger, amount: float) -> None:
    assert score(entered(ledger, Blame.GOOD, ledger.as_of_s, amount)) >= score(ledger)


@given(LEDGERS, st.floats(0, 1e8))
def test_time_never_lowers_it(ledger: TrustLedger, passed_s: float) -> None:
    assert score(aged(ledger, ledger.as_of_s + passed_s)) >= score(ledger) - 1e-12


@given(LEDGERS)
def test_in_the_end_all_but_wear_is_forgotten(ledger: TrustLedger) -> None:
    later = aged(ledger, ledger.as_of_s + 60 * HALF_LIFE_S)
    assert score(later) == pytest.approx(1 / (1 + 0.5 * ledger.worn), abs=1e-6)


def test_it_halves() -> None:
    ledger = entered(TrustLedger(), Blame.CRASH, 100.0, 2)
    assert aged(ledger, 100.0 + HALF_LIFE_S).crashes == pytest.approx(1)
    assert score(ledger) == pytest.approx(1 / 2) and score(aged(ledger, 100.0 + HALF_LIFE_S)) == pytest.approx(1 / 1.5)


def test_a_clock_that_goes_back_changes_nothing() -> None:
    ledger = entered(TrustLedger(), Blame.CRASH, 1000.0)
    for running_s in (0.0, -5.0, math.nan, math.inf):
        assert aged(ledger, running_s) is ledger


@given(st.dictionaries(st.sampled_from([*ledger_document(TrustLedger(1, 1, 1, 1, 1, 1, 1, 1)), "other"]), GARBAGE))
def test_garbage_from_a_disk_counts_nothing(document: dict[str, Any]) -> None:
    ledger = ledger_from(document)
    assert 0 < score(ledger) <= 1
    assert all(math.isfinite(value) and value >= 0 for value in ledger_document(ledger).values())


@pytest.mark.parametrize("document", [None, [], "x", 3, {"wrong": math.nan, "flaps": -4, "crashes": True}])
def test_what_is_no_ledger_is_an_empty_one(document: object) -> None:
    assert ledger_from(document).empty


@given(LEDGERS)
def test_what_is_stored_is_read(ledger: TrustLedger) -> None:
    assert ledger_from(ledger_document(ledger)) == ledger


def verified(wrong: int, good: int) -> TrustLedger:
    return TrustLedger(wrong=wrong, good=good)


def test_one_wrong_result_is_an_accident_two_are_a_habit() -> None:
    assert score(verified(1, 0)) > QUARANTINE_BELOW
    assert score(verified(2, 18)) < QUARANTINE_BELOW
    assert score(verified(2, 60)) > QUARANTINE_BELOW
    assert reason_for(verified(2, 18)) == "2 wrong results in 20 verified tasks"
    assert reason_for(verified(1, 0)) == "1 wrong result in 1 verified task"


def test_what_weighs_most_is_the_reason() -> None:
    assert reason_for(TrustLedger(crashes=6, flaps=5)) == "its worker died with tasks 6 times lately"
    assert reason_for(TrustLedger(flaps=60)) == "its connection broke 60 times lately"
    assert reason_for(TrustLedger(flaps=60, wrong=1)) == "1 wrong result in 1 verified task"
    assert "throttled" in reason_for(TrustLedger(throttled_h=90)) and "80%" in reason_for(TrustLedger(worn=0.8))


def test_crashes_and_a_bad_radio_alone_put_no_device_into_quarantine() -> None:
    assert score(TrustLedger(crashes=1e6, flaps=1e6)) > QUARANTINE_BELOW


def test_neither_heat_nor_an_old_battery_alone_puts_a_device_into_quarantine() -> None:
    assert score(TrustLedger(throttled_h=1e6, worn=1.0)) > QUARANTINE_BELOW


@given(LEDGERS, st.floats(0, 1))
def test_forgiving_a_part(ledger: TrustLedger, factor: float) -> None:
    assert score(scaled(ledger, factor)) >= score(ledger)
    assert score(scaled(evolve(ledger, worn=0.0), 0.0)) == 1


def test_half_of_what_led_to_quarantine_is_not_enough_for_it() -> None:
    """So that a passed probe opens the door, and the next wrong result closes it again."""
    half = scaled(verified(2, 0), 0.5)
    assert QUARANTINE_BELOW < score(half) < RELEASE_ABOVE
    assert score(entered(half, Blame.WRONG, 0.0)) < QUARANTINE_BELOW


@given(LEDGERS, st.floats(0, 1))
def test_whoever_is_released_is_above_the_bound(ledger: TrustLedger, factor: float) -> None:
    kept = released(ledger, factor)
    assert score(kept) >= QUARANTINE_BELOW and kept.worn == ledger.worn
    assert score(kept) >= score(scaled(ledger, factor))


@pytest.mark.parametrize(
    ("battery", "worn"),
    [
        (None, None),
        (80.0, None),
        ({}, None),
        ({"wear_percent": 30}, 0.3),
        ({"wear_percent": math.nan}, 0.0),
        ({"wear_percent": 900}, 1.0),
        ({"health": "good"}, 0.0),
        ({"health": "dead", "wear_percent": 10}, 0.5),
        ({"health": "overheat"}, 0.5),
        ({"health": 3}, None),
    ],
)
def test_what_a_battery_says(battery: object, worn: float | None) -> None:
    assert worn_of(battery) == worn
