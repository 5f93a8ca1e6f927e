"""How far a device can be relied upon: a ledger of what went wrong there lately, and the score that follows from it.

The score is `1 / (1 + blame)`, where blame is a sum of what is in the ledger, each part weighed:

    blame = 20 * wrong² / (wrong + good + 10)    results that another device proved wrong, among verified ones
          + 0.5  * crashes, at most 1.5          the worker died with a task
          + 0.05 * flaps, at most 0.5            the connection ended without a farewell
          + 0.01 * throttled hours, at most 1    its firmware slowed it down
          + 0.5  * worn                          0 to 1: what its battery has lost

Only wrong results lead to quarantine: an old phone whose battery gives out, or a bad radio, works when it works;
leases see to its tasks, and who dies on one task after the other is suspect (see `probes`). One wrong result may be an
accident (1 in 1: 0.35), two of them are a habit (2 in 2: 0.13, 2 in 20: 0.27). Every figure but `worn` halves in
`HALF_LIFE_S` of the cluster's running time: what is not repeated is forgotten, and time in which the main is down
forgives nothing.
Pure: the running time is an argument.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from attrs import asdict, evolve, fields, frozen

HALF_LIFE_S = 7 * 86_400.0
QUARANTINE_BELOW = 0.3
RELEASE_ABOVE = 0.6
"""A device in quarantine that was left in peace for long enough comes out of it by itself: hysteresis."""
MOST = 1e6
"""No figure grows beyond: whatever a device sends, sums stay finite."""
BAD_HEALTH = 0.5
"""How worn a battery is taken to be that calls itself neither good nor unknown."""


class Blame(str, Enum):
    """What can be entered. The values are the ledger's fields."""

    FLAP = "flaps"
    CRASH = "crashes"
    THROTTLED = "throttled_h"
    WRONG = "wrong"
    GOOD = "good"

    __str__ = str.__str__


@frozen
class TrustLedger:
    """Counts that fade, as they stood at `as_of_s` (running time of the cluster, in seconds).

    `throttled_h` is in hours; `good` and `wrong` count verified results; `worn` (0 to 1) is what the device says
    of its battery; `quarantines` counts those of late, so that each next one lasts longer.
    """

    flaps: float = 0.0
    crashes: float = 0.0
    throttled_h: float = 0.0
    wrong: float = 0.0
    good: float = 0.0
    quarantines: float = 0.0
    worn: float = 0.0
    as_of_s: float = 0.0

    @property
    def empty(self) -> bool:
        """Nothing was ever entered."""
        return self == TrustLedger(as_of_s=self.as_of_s)


FADING = ("flaps", "crashes", "throttled_h", "wrong", "good", "quarantines")
BAD = ("flaps", "crashes", "throttled_h", "wrong")


def aged(ledger: TrustLedger, running_s: float) -> TrustLedger:
    """The ledger as it stands at `running_s`. A time before its own (or none at all) changes nothing."""
    age_s = running_s - ledger.as_of_s
    if not (math.isfinite(age_s) and age_s > 0):
        return ledger
    keep = 0.5 ** (age_s / HALF_LIFE_S)
    faded = {name: getattr(ledger, name) * keep for name in FADING}
    return evolve(ledger, as_of_s=running_s, **faded)


def entered(ledger: TrustLedger, what: Blame, running_s: float, amount: float = 1.0) -> TrustLedger:
    """The ledger with one more event. An amount that makes no sense (negative, not a number) counts nothing."""
    now = aged(ledger, running_s)
    return evolve(now, **{what.value: min(MOST, getattr(now, what.value) + _sane(amount))})


def with_wear(ledger: TrustLedger, worn: float) -> TrustLedger:
    """The ledger with what the battery has lost, 0 to 1."""
    return evolve(ledger, worn=min(1.0, _sane(worn)))


def scaled(ledger: TrustLedger, factor: float) -> TrustLedger:
    """The ledger with only so much (0 to 1) of what is held against the device: 0 forgives everything."""
    return evolve(ledger, **{name: getattr(ledger, name) * min(1.0, _sane(factor)) for name in BAD})


def released(ledger: TrustLedger, factor: float) -> TrustLedger:
    """`scaled`, and again by halves until the score is no longer one that leads to quarantine."""
    kept = scaled(ledger, factor)
    while score(kept) < QUARANTINE_BELOW:
        kept = scaled(kept, 0.5)
    return kept


def parts(ledger: TrustLedger) -> dict[str, float]:
    """Each part of the blame, by the name of its field."""
    return {
        "wrong": 20.0 * ledger.wrong**2 / (ledger.wrong + ledger.good + 10.0),
        "crashes": min(1.5, 0.5 * ledger.crashes),
        "flaps": min(0.5, 0.05 * ledger.flaps),
        "throttled_h": min(1.0, 0.01 * ledger.throttled_h),
        "worn": 0.5 * ledger.worn,
    }


def score(ledger: TrustLedger) -> float:
    """The trust, above 0 and at most 1."""
    return 1.0 / (1.0 + sum(parts(ledger).values()))


def reason_for(ledger: TrustLedger) -> str:
    """What weighs most, in words: `2 wrong results in 20 verified tasks`."""
    heaviest = max(parts(ledger).items(), key=lambda part: part[1])[0]
    wrong, verified = round(ledger.wrong), round(ledger.wrong + ledger.good)
    words = {
        "wrong": f"{_count(wrong, 'wrong result')} in {_count(verified, 'verified task')}",
        "crashes": f"its worker died with tasks {_times(ledger.crashes)} lately",
        "flaps": f"its connection broke {_times(ledger.flaps)} lately",
        "throttled_h": f"{ledger.throttled_h:.0f} h throttled lately",
        "worn": f"its battery has lost {ledger.worn:.0%}",
    }
    return words[heaviest]


def worn_of(battery: Any) -> float | None:
    """What a heartbeat's `battery` says of its wear, 0 to 1; None if nothing."""
    if not isinstance(battery, Mapping):
        return None
    percent, health = battery.get("wear_percent"), battery.get("health")
    worn = None if percent is None else min(1.0, _sane(percent) / 100.0)
    if isinstance(health, str) and health:
        bad = 0.0 if health.strip().lower() in ("good", "unknown", "") else BAD_HEALTH
        return max(bad, worn or 0.0)
    return worn


def ledger_document(ledger: TrustLedger) -> dict[str, float]:
    """The figures as they are stored."""
    return {name: value for name, value in asdict(ledger).items() if value}


def figures(ledger: TrustLedger) -> dict[str, float]:
    """Every figure by its name, for people: those that fade as of the last event or heartbeat."""
    return {name: getattr(ledger, name) for name in (*FADING, "worn")}


def ledger_from(document: object) -> TrustLedger:
    """A ledger as it was stored; what makes no sense in it counts nothing."""
    if not isinstance(document, Mapping):
        return TrustLedger()
    values = {each.name: _sane(document.get(each.name, 0.0)) for each in fields(TrustLedger)}
    capped = {name: min(MOST, values[name]) for name in FADING}
    return TrustLedger(**(values | capped | {"worn": min(1.0, values["worn"])}))


def _sane(value: object) -> float:
    """A number that is finite and not negative; anything else is 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) and number > 0 else 0.0


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _times(number: float) -> str:
    rounded = round(number)
    return "once" if rounded == 1 else f"{rounded} times"
