"""Simulated days of devices whose own work changes what their rules look at: how often they are switched on and off.

Each environment says what is read, given whether the device works: a phone that gets hot by working, a battery that a
small panel fills more slowly than work drains it, load averages with a remainder of the device's own tasks in them. The
policies are those of an owner who names the threshold alone and leaves all else at its default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from math import exp, pi, sin
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retirecluster.domain.policy import DEFAULT_DWELL_S, Policy, Readings, State, decide
from retirecluster.domain.policy_fields import policy_problems

LOOK_S, DAY_S = 10.0, 86_400.0
MIDNIGHT = datetime(2026, 7, 1, tzinfo=timezone.utc)
MOST_CHANGES = 62
"""A day, of any rule at the default settings, whatever happens: 24 pauses of an hour, and some shorter ones before."""
Environment = Iterator[dict[str, Any]]
"""Gives readings; is sent whether the device works."""


def heat(random: Random) -> Environment:
    """A phone: its temperature follows work and the day, with a time constant of some minutes."""
    tau_s, rise_c = random.uniform(120, 1800), random.uniform(20, 45)
    now, degrees = 0.0, 24.0
    while True:
        works = yield {"temperature_c": degrees + random.gauss(0, 0.5)}
        ambient = 25 + 5 * sin(2 * pi * (now / DAY_S - 0.4))
        degrees += (ambient + (rise_c if works else 0) - degrees) * (1 - exp(-LOOK_S / tau_s))
        now += LOOK_S


def load(random: Random) -> Environment:
    """Others come and go; and some of the device's own load is taken for theirs, while it works and a while after."""
    own, base, others, average = random.uniform(0, 1.2), random.uniform(0.1, 1.4), 0.0, 0.0
    while True:
        works = yield {"load": max(0.0, average + random.gauss(0, 0.05))}
        if random.random() < LOOK_S / 900:
            others = random.choice([0.0, base, base, 3.0])
        average += (others + (own if works else 0) - average) * (1 - exp(-LOOK_S / 60))


def battery(random: Random) -> Environment:
    """A small solar panel: it charges the device that rests, and not the one that works."""
    level, panel, drain = random.uniform(30, 90), random.uniform(4, 15), random.uniform(10, 40)
    while True:
        works = yield {"battery_percent": round(level + random.gauss(0, 0.7)), "charging": random.choice([None, False])}
        level = min(100.0, max(0.0, level + (panel - (drain if works else 0)) * LOOK_S / 3600))


def plug(random: Random) -> Environment:
    """A plug that is loose for hours."""
    loose, charging = random.uniform(0.02, 0.5), True
    while True:
        yield {"charging": charging, "battery_percent": 80.0}
        charging = random.random() > loose


def owner(random: Random) -> Environment:
    """Somebody who looks in now and then."""
    every_s, away_s = random.uniform(120, 7200), 1e4
    while True:
        yield {"owner_away_s": away_s}
        away_s = 0.0 if random.random() < LOOK_S / every_s else away_s + LOOK_S


def network(random: Random) -> Environment:
    """A phone at the edge of the reach of the radio at home."""
    every_s, metered = random.uniform(30, 3600), False
    while True:
        yield {"metered": metered}
        metered = metered if random.random() > LOOK_S / every_s else not metered


def tariff(random: Random) -> Environment:
    """A price about the limit, new every few minutes."""
    every_s, spread, value = random.choice([60, 300, 900]), random.uniform(0.001, 0.1), 0.2
    while True:
        yield {"signals": {"tariff": value}}
        if random.random() < LOOK_S / every_s:
            value = 0.2 + random.gauss(0, spread)


def clock(random: Random) -> Environment:
    now = MIDNIGHT
    while True:
        yield {"local": now}
        now += timedelta(seconds=LOOK_S)


DAYS: list[tuple[dict[str, Any], Callable[[Random], Environment], int]] = [
    ({"temperature": {"pause_above": 45}}, heat, MOST_CHANGES),
    ({"max_load": 1.5}, load, MOST_CHANGES),
    ({"battery": {"pause_below": 40}}, battery, 48),
    ({"only_when_charging": True}, plug, 16),
    ({"owner_away_min": 10}, owner, MOST_CHANGES),
    ({"metered": "deny"}, network, MOST_CHANGES),
    ({"signals": {"tariff": {"max": 0.2}}}, tariff, MOST_CHANGES),
    ({"signals": {"tariff": {"max": 0.2, "resume_below": 0.15}}}, tariff, MOST_CHANGES),
    ({"hours": ["22:00-07:00", "12:00-13:00"]}, clock, 5),
]


def day(policy: dict[str, Any], environment: Environment) -> list[tuple[float, bool]]:
    """(time, paused) of each change in a day."""
    assert not policy_problems(policy)
    rules, state, changes = Policy.from_document({**policy, "on_pause": "suspend"}), State(), []
    readings, now, paused = next(environment), 0.0, False
    while now < DAY_S:
        state, verdict = decide(rules, state, Readings(**readings), now)
        if verdict.paused != paused:
            changes.append((now, verdict.paused))
        paused = verdict.paused
        readings = environment.send(not paused)
        now += LOOK_S
    return changes


@pytest.mark.parametrize(("policy", "environment", "most"), DAYS, ids=[each[1].__name__ for each in DAYS])
def test_no_rule_switches_a_device_all_day_long(policy: Any, environment: Any, most: int) -> None:
    counts = {}
    for seed in range(12):
        changes = day(policy, environment(Random(seed)))
        counts[seed] = len(changes)
        for (began, paused), (ended, _) in pairwise(changes):
            assert not paused or ended - began >= DEFAULT_DWELL_S
    assert max(counts.values()) <= most, counts


def test_without_the_longer_waits_the_same_days_flap(monkeypatch: pytest.MonkeyPatch) -> None:
    """That the environments are hard enough to say something."""
    monkeypatch.setattr("retirecluster.domain.patience.LONGEST_S", DEFAULT_DWELL_S)
    most = {environment.__name__: 0 for _, environment, _ in DAYS}
    for policy, environment, _ in DAYS:
        for seed in range(4):
            most[environment.__name__] = max(most[environment.__name__], len(day(policy, environment(Random(seed)))))
    assert {name for name, count in most.items() if count > 2 * MOST_CHANGES} >= {"heat", "load", "network", "tariff"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([10.0, 1800.0, 3590.0, 3600.0, 3610.0, 7200.0, 7210.0]), min_size=1, max_size=8))
def test_not_even_a_day_made_to_switch_it_does(works_s: list[float]) -> None:
    """An adversary: all is well until it has worked for so long, then it is not for a moment."""

    def adversary() -> Environment:
        worked_s, turn = 0.0, 0
        while True:
            bad = worked_s >= works_s[turn % len(works_s)]
            works = yield {"metered": bad}
            turn += bad
            worked_s = 0.0 if bad or not works else worked_s + LOOK_S

    assert len(day({"metered": "deny"}, adversary())) <= MOST_CHANGES
