"""The comfort policy: simulated days with a clock of their own, thresholds, dwell, what is not known, and its words."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.policy import (
    CONTINUE,
    HAND_BACK,
    SUSPEND,
    UNKNOWN_KEEPS_S,
    Order,
    Policy,
    Readings,
    State,
    Verdict,
    decide,
    merged,
    remembered,
)
from retirecluster.domain.policy_fields import POLICY, policy_problems

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=timezone.utc)


class Device:
    """Decides as a worker does, tick after tick."""

    def __init__(self, **policy: Any) -> None:
        assert not policy_problems(policy)
        self.policy = Policy.from_document(policy)
        self.state = State()
        self.now = 1000.0
        self.verdict = Verdict(False, "", 0.0, CONTINUE)

    def sees(self, after_s: float = 10.0, **readings: Any) -> Verdict:
        self.now += after_s
        self.state, self.verdict = decide(self.policy, self.state, Readings(**readings), self.now)
        return self.verdict


# Single rules


@pytest.mark.parametrize(
    ("policy", "well", "bad", "words"),
    [
        ({"only_when_charging": True}, {"charging": True}, {"charging": False}, "on battery"),
        (
            {"battery": {"pause_below": 40}},
            {"battery_percent": 50, "charging": False},
            {"battery_percent": 31, "charging": False},
            "battery 31 % < 40 %, on battery",
        ),
        (
            {"temperature": {"pause_above": 60}},
            {"temperature_c": 55},
            {"temperature_c": 61},
            "temperature 61 °C > 60 °C",
        ),
        ({"hours": ["12:00-13:00"]}, {"local": NOON}, {"local": NOON + timedelta(hours=1)}, "outside its hours"),
        (
            {"owner_away_min": 10},
            {"owner_away_s": 600},
            {"owner_away_s": 12},
            "its owner was there 12s ago, less than 10m",
        ),
        ({"max_load": 1.5}, {"load": 1.0}, {"load": 2.0}, "load of others 2 > 1.5"),
        ({"metered": "deny"}, {"metered": False}, {"metered": True}, "the network is metered"),
        ({"signals": {"tariff": {"max": 0.2}}}, {"signals": {"tariff": 0.2}}, {"signals": {"tariff": 0.31}},
         "tariff 0.31 > 0.2"),
        ({"signals": {"solar": {"min": 1}}}, {"signals": {"solar": 1}}, {"signals": {"solar": 0.5}}, "solar 0.5 < 1"),
    ],
)  # fmt: skip
def test_each_rule_pauses_with_its_reason_and_lets_go(policy: Any, well: Any, bad: Any, words: str) -> None:
    device = Device(**policy, min_dwell_s=60)
    assert not device.sees(**well).paused
    paused = device.sees(**bad)
    assert (paused.paused, paused.reason, paused.since_s) == (True, words, 0.0)
    assert device.sees(**well).paused, "it goes on only once all is well for a while"
    assert device.verdict.reason == f"{words} (over; goes on once it has been so for 1m)"
    assert device.sees(59, **well).paused
    working = device.sees(1, **well)
    assert not working.paused and working.reason == ""


def test_the_reason_says_since_when_it_runs_on_battery() -> None:
    device = Device(battery={"pause_below": 40})
    device.sees(charging=True, battery_percent=35, local=NOON)
    device.sees(charging=False, battery_percent=50, local=NOON + timedelta(minutes=2))
    verdict = device.sees(charging=False, battery_percent=31, local=NOON + timedelta(minutes=40))
    assert verdict.reason == "battery 31 % < 40 %, on battery since 12:02"
    assert device.sees(charging=None, battery_percent=31).reason == "battery 31 % < 40 %", "nobody knows that now"


def test_a_level_while_it_charges_does_not_count() -> None:
    device = Device(battery={"pause_below": 40, "resume_above": 60}, min_dwell_s=0)
    assert not device.sees(charging=True, battery_percent=3).paused
    assert device.sees(charging=False, battery_percent=39).paused
    assert device.sees(charging=False, battery_percent=59).reason == "battery 59 % < 60 %, on battery"
    assert not device.sees(charging=False, battery_percent=60).paused
    assert not device.sees(charging=False, battery_percent=40).paused
    assert device.sees(battery_percent=39.9).paused, "also where nobody knows whether it charges"


def test_all_reasons_are_named() -> None:
    device = Device(battery={"pause_below": 40}, temperature={"pause_above": 45}, metered="deny")
    verdict = device.sees(battery_percent=20, temperature_c=50, metered=True)
    assert verdict.reason == "battery 20 % < 40 %; temperature 50 °C > 45 °C; the network is metered"


@pytest.mark.parametrize("on_pause", [CONTINUE, SUSPEND, HAND_BACK])
def test_what_becomes_of_running_tasks(on_pause: str) -> None:
    device = Device(only_when_charging=True, on_pause=on_pause)
    assert device.sees(charging=False).running == on_pause
    assert device.sees(charging=True).running == on_pause, "until it works again"
    assert device.sees(60, charging=True).running == CONTINUE


def test_a_persons_word_comes_at_once_and_goes_at_once() -> None:
    device = Device(only_when_charging=True, min_dwell_s=600)
    device.sees(charging=True)
    quiet = Order("quiet until 18:00", SUSPEND)
    verdict = device.sees(charging=True, orders=(quiet,))
    assert (verdict.paused, verdict.reason, verdict.running) == (True, "quiet until 18:00", SUSPEND)
    assert not device.sees(charging=True).paused
    both = device.sees(charging=False, orders=(quiet,))
    assert both.reason == "quiet until 18:00; on battery"
    assert device.sees(charging=False).reason == "on battery"


def test_without_rules_nothing_pauses() -> None:
    assert not Device().sees().paused
    assert not Device(hours=[], owner_away_min=0, metered="allow", only_when_charging=False, signals={}).sees().paused


# What is not known

EVERYTHING: dict[str, Any] = {
    "only_when_charging": True,
    "battery": {"pause_below": 40},
    "temperature": {"pause_above": 60},
    "hours": ["12:00-13:00"],
    "owner_away_min": 5,
    "max_load": 1,
    "metered": "deny",
    "signals": {"tariff": {"max": 1}},
}


def test_what_is_not_known_lets_it_run_or_pauses_it_as_the_owner_says() -> None:
    assert not Device(**EVERYTHING, unknown="run").sees().paused
    verdict = Device(**EVERYTHING, unknown="pause").sees()
    names = ("power", "battery", "temperature", "hours", "owner", "load", "network", "signal tariff")
    assert verdict.paused and verdict.reason == "; ".join(f"{name}: not known" for name in names)


def test_a_sensor_that_is_silent_for_a_moment_changes_nothing() -> None:
    device = Device(temperature={"pause_above": 60}, min_dwell_s=0)
    assert device.sees(temperature_c=70).paused
    assert device.sees(UNKNOWN_KEEPS_S - 1).paused
    assert not device.sees(1).paused
    device = Device(temperature={"pause_above": 60}, min_dwell_s=0, unknown="pause")
    assert not device.sees(temperature_c=50).paused
    assert not device.sees(UNKNOWN_KEEPS_S - 1).paused
    assert device.sees(1).reason == "temperature: not known"


def test_a_signal_that_is_over_is_known_to_be_none() -> None:
    device = Device(signals={"tariff": {"max": 0.2}}, min_dwell_s=0)
    assert device.sees(signals={"tariff": 0.5}).reason == "tariff 0.5 > 0.2"
    assert not device.sees(0.1).paused, "nobody says 0.5 any more"
    device = Device(signals={"solar": {"min": 1}}, min_dwell_s=0, unknown="pause")
    assert not device.sees(signals={"solar": 5}).paused
    assert device.sees(0.1).reason == "signal solar: not known"


def test_a_signal_may_have_two_thresholds() -> None:
    device = Device(signals={"tariff": {"max": 0.2, "resume_below": 0.15}}, min_dwell_s=0)
    said = [device.sees(signals={"tariff": value}).reason for value in (0.2, 0.21, 0.19, 0.15, 0.19)]
    assert said == ["", "tariff 0.21 > 0.2", "tariff 0.19 > 0.15", "", ""]
    device = Device(signals={"solar": {"min": 100, "resume_above": 300}}, min_dwell_s=0)
    said = [device.sees(signals={"solar": value}).reason for value in (100, 99, 200, 300, 100)]
    assert said == ["", "solar 99 < 100", "solar 200 < 300", "", ""]


def test_a_pause_that_follows_soon_is_waited_for_longer() -> None:
    device = Device(metered="deny", min_dwell_s=60)
    waits = []
    for _ in range(8):
        device.sees(metered=True)
        well_at = device.now
        while device.sees(10, metered=False).paused:
            assert device.verdict.reason.startswith("the network is metered (over; ")
        waits.append(device.now - 10 - well_at)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    device.sees(20 * 3600, metered=False)
    device.sees(metered=True)
    assert device.sees(10, metered=False).reason.endswith("(over; goes on once it has been so for 1m)")
    device = Device(metered="deny", min_dwell_s=7200)
    device.sees(metered=True)
    device.sees(metered=False)
    assert device.sees(7199, metered=False).paused, "an owner who wants more gets more"
    assert not device.sees(1, metered=False).paused


def test_what_nobody_sees_may_cost_money() -> None:
    """A network of which nothing tells whether it is metered, as on a phone, is taken to be, unless its owner says."""
    verdict = Device(**EVERYTHING).sees()
    assert verdict.reason == "network: not known"
    assert set(verdict.untold) == {"power", "battery", "temperature", "hours", "owner", "load", "network",
                                   "signal tariff"}  # fmt: skip
    device = Device(metered="deny", min_dwell_s=0)
    assert device.sees(metered=False).untold == ()
    assert not device.sees(UNKNOWN_KEEPS_S - 1).paused
    assert device.verdict.untold == ("network",)
    assert device.sees(1).paused


def test_a_pause_for_want_of_power_outlasts_its_sensor() -> None:
    """A tool that hung once must not have the phone run flat."""
    device = Device(battery={"pause_below": 40, "resume_above": 60}, min_dwell_s=0)
    device.sees(battery_percent=20, charging=False, local=NOON)
    assert device.sees(60, local=NOON + timedelta(minutes=1)).reason == "battery 20 % < 40 %, on battery"
    for hour in range(1, 30):
        verdict = device.sees(3600, local=NOON + timedelta(minutes=1, hours=hour))
        assert verdict.reason == "battery 20 % < 40 %, on battery (not known since 12:00)"
        assert verdict.untold == ("battery",)
    assert device.sees(10).reason == "battery 20 % < 40 %, on battery (not known any more)"
    assert device.sees(10, battery_percent=50, charging=False).reason == "battery 50 % < 60 %, on battery"
    assert not device.sees(10, charging=True).paused
    device = Device(only_when_charging=True, min_dwell_s=0)
    assert device.sees(charging=False).paused and device.sees(86_400).paused
    assert not Device(battery={"pause_below": 40}).sees().paused, "what was never known keeps nobody from working"


def test_a_restart_forgets_no_threshold_and_no_dwell() -> None:
    device = Device(battery={"pause_below": 40, "resume_above": 60}, temperature={"pause_above": 60}, min_dwell_s=60)
    pausing = {"battery": "battery 31 % < 40 %, on battery", "load": "of a policy before", "owner": "not known"}
    device.state = remembered(device.policy, pausing, "14:02", device.now)
    assert device.state.rules_say == "battery 31 % < 40 %, on battery since 14:02"
    verdict = device.sees(battery_percent=50, charging=False, temperature_c=20)
    assert verdict.reason == "battery 50 % < 60 %, on battery since 14:02"
    device.sees(battery_percent=61, charging=False, temperature_c=20)
    assert device.sees(50, battery_percent=61, charging=False, temperature_c=20).settling
    assert not device.sees(20, battery_percent=61, charging=False, temperature_c=20).paused
    device.state = remembered(device.policy, {}, "", device.now)
    assert not device.sees(battery_percent=50, charging=False, temperature_c=20).paused


def test_a_clock_of_1970_knows_no_hours() -> None:
    device = Device(hours=["12:00-13:00"])
    assert not device.sees(local=datetime(1970, 1, 1, 3, 0, tzinfo=timezone.utc)).paused


# Simulated days


@given(st.lists(st.integers(0, 100), min_size=50, max_size=400), st.integers(5, 600))
def test_no_flapping_whatever_the_battery_says(levels: list[int], dwell_s: int) -> None:
    """Each pause lasts at least the dwell, and ends only after a dwell without a reason."""
    device = Device(battery={"pause_below": 40, "resume_above": 60}, min_dwell_s=dwell_s)
    changes: list[tuple[float, bool]] = []
    well_since: float | None = None
    paused_for_level = False
    for level in levels:
        before = device.verdict.paused
        verdict = device.sees(5.0, battery_percent=float(level), charging=False)
        paused_for_level = level < (60 if paused_for_level else 40)
        well_since = None if paused_for_level else well_since if well_since is not None else device.now
        if verdict.paused != before:
            changes.append((device.now, verdict.paused))
        if paused_for_level:
            assert verdict.paused, "pauses at once"
        if before and not verdict.paused:
            assert well_since is not None and device.now - well_since >= dwell_s
    for (began, paused), (ended, _) in pairwise(changes):
        if paused:
            assert ended - began >= dwell_s


@given(st.floats(0, 3), st.floats(0.05, 0.45), st.integers(30, 900))
def test_a_day_of_a_phone(phase: float, noise: float, dwell_s: int) -> None:
    """Charged at night, used by day, with a noisy sensor: two changes a day, not more."""
    device = Device(battery={"pause_below": 40, "resume_above": 60}, min_dwell_s=dwell_s)
    changes, before = 0, False
    for minute in range(24 * 60):
        hour = minute / 60
        charging = hour < 6 + phase or hour > 23
        true_level = 100 - 6 * max(0.0, hour - 6 - phase)
        level = min(100.0, max(0.0, true_level + noise * (minute % 3 - 1)))
        verdict = device.sees(60, battery_percent=level, charging=charging, local=NOON)
        changes += verdict.paused != before
        before = verdict.paused
    assert changes <= 2


@given(st.data())
def test_the_same_readings_give_the_same_decisions(data: st.DataObject) -> None:
    readings = data.draw(
        st.lists(
            st.builds(
                Readings,
                charging=st.none() | st.booleans(),
                battery_percent=st.none() | st.floats(0, 100),
                temperature_c=st.none() | st.floats(-20, 100),
                owner_away_s=st.none() | st.floats(0, 1e5),
                load=st.none() | st.floats(0, 50),
                metered=st.none() | st.booleans(),
            ),
            max_size=30,
        )
    )
    policy = Policy.from_document({**EVERYTHING, "unknown": data.draw(st.sampled_from(["run", "pause"]))})
    runs = []
    for _ in range(2):
        state, now, verdicts = State(), 0.0, []
        for each in readings:
            now += 30.0
            state, verdict = decide(policy, state, each, now)
            verdicts.append(verdict)
            assert verdict.paused == bool(verdict.reason)
            assert verdict.since_s >= 0
        runs.append(verdicts)
    assert runs[0] == runs[1]


# The documents


def test_the_owner_has_the_last_word_field_by_field() -> None:
    cluster = {"battery": {"pause_below": 50}, "hours": ["22:00-06:00"], "metered": "deny"}
    owner = {"hours": [], "battery": None, "on_pause": "suspend"}
    expected = {"battery": {"pause_below": 50}, "hours": [], "metered": "deny", "on_pause": "suspend"}
    assert merged(cluster, owner) == expected
    assert merged(None, None) == {}


@pytest.mark.parametrize(
    ("policy", "path"),
    [
        ({"battery": {"pause_below": 40, "resume_above": 30}}, "policy.battery.resume_above"),
        ({"battery": {}}, "policy.battery.pause_below"),
        ({"battery": {"pause_below": 101}}, "policy.battery.pause_below"),
        ({"temperature": {"pause_above": 40, "resume_below": 50}}, "policy.temperature.resume_below"),
        ({"hours": ["12:00-13:00", "Mon-Fry 1:00-2:00"]}, "policy.hours[1]"),
        ({"signals": {"tariff": {}}}, "policy.signals.tariff"),
        ({"signals": {"tariff": {"min": 5, "max": 1}}}, "policy.signals.tariff.min"),
        ({"signals": {"tariff": {"max": 1, "resume_below": 2}}}, "policy.signals.tariff.resume_below"),
        ({"signals": {"tariff": {"max": 1, "resume_above": 0}}}, "policy.signals.tariff.resume_above"),
        ({"signals": {"t": {"min": 1, "max": 4, "resume_above": 3, "resume_below": 2}}}, "policy.signals.t"),
        ({"signals": {"Tariff": {"max": 1}}}, "policy.signals.Tariff"),
        ({"max_cpu_share": 0}, "policy.max_cpu_share"),
        ({"on_pause": "kill"}, "policy.on_pause"),
        ({"only_when_charing": True}, "policy.only_when_charing"),
        ({"max_load": float("nan")}, "policy.max_load"),
    ],
)
def test_mistakes_are_named_by_field(policy: dict[str, Any], path: str) -> None:
    assert [problem.path for problem in policy_problems(policy)] == [path]


def test_every_field_is_documented() -> None:
    assert all(each.doc for each in POLICY.fields)
