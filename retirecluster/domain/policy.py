"""When a device works for the cluster: its owner's comfort policy. Pure: `decide(policy, state, readings, now)`.

Each rule looks at one reading. A rule that asks for a pause gets it at once; the device works again only when all rules
have been content for `min_dwell_s` without a break, so that a reading that goes up and down does not make the device
go on and off with it. Battery and temperature have two thresholds each for the same reason.

A reading that is not known leaves its rule as it was for `UNKNOWN_KEEPS_S`; after that, `unknown` decides: `run` (the
default: nobody is kept from working by what his device cannot tell) or `pause`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from retirecluster.domain.hours import Window, open_now, parse_window
from retirecluster.domain.units import format_duration

CONTINUE, SUSPEND, HAND_BACK = "continue", "suspend", "hand_back"
RUN, PAUSE = "run", "pause"
UNKNOWN_KEEPS_S = 300.0
DEFAULT_DWELL_S = 60.0
UNKNOWN = "not known"
ON_BATTERY = "on battery"
RESUME_LOAD_SHARE = 0.8
"""A device paused for its load works again below this part of `max_load`."""
BATTERY_GAP, TEMPERATURE_GAP_C = 10.0, 5.0
"""Between the two thresholds where the owner names one alone."""


@frozen
class Order:
    """A person's word, by way of the main: no work for now. `running` is what becomes of running tasks."""

    reason: str
    running: str = CONTINUE


@frozen
class Readings:
    """What is known of the device now; None is unknown. `load` is that of others: without the cluster's own tasks."""

    charging: bool | None = None
    battery_percent: float | None = None
    temperature_c: float | None = None
    local: datetime | None = None
    owner_away_s: float | None = None
    load: float | None = None
    metered: bool | None = None
    signals: Mapping[str, float] = field(factory=dict)
    orders: tuple[Order, ...] = ()


Answer = tuple[bool, str] | None
"""Whether a rule wants a pause, and why in words; None: what it looks at is not known."""
Look = Callable[[Readings, bool], Answer]
"""A rule: given the readings and whether it wanted a pause before."""


@frozen
class Rule:
    """One rule of a policy."""

    name: str
    look: Look


@frozen
class Policy:
    """A policy, ready to decide with."""

    rules: tuple[Rule, ...] = ()
    min_dwell_s: float = DEFAULT_DWELL_S
    on_pause: str = CONTINUE
    unknown: str = RUN
    max_cpu_share: float | None = None
    zone: str | None = None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Policy:
        """From a checked document; see `policy_problems`."""
        said = {name: value for name, value in document.items() if value is not None}
        dwell_s = said.get("min_dwell_s")
        return cls(
            rules=tuple(_rules(said)),
            min_dwell_s=DEFAULT_DWELL_S if dwell_s is None else dwell_s,
            on_pause=said.get("on_pause", CONTINUE),
            unknown=said.get("unknown", RUN),
            max_cpu_share=said.get("max_cpu_share"),
            zone=said.get("zone"),
        )


@frozen
class Memory:
    """What a rule said last, and when (seconds of the caller's clock)."""

    pausing: bool
    words: str
    at: float


@frozen
class State:
    """What a decision leaves for the next one. `now` of all decisions is of one monotonic clock, in seconds."""

    paused: bool = False
    since: float | None = None
    content_since: float | None = None
    """Since when no rule has asked for a pause; None while one does."""
    memories: Mapping[str, Memory] = field(factory=dict)
    on_battery_since: str = ""
    """Local time (`14:02`) at which it was seen to lose its power; empty if that was not seen."""
    charging: bool | None = None
    rules_say: str = ""
    """Why the rules keep the device from working; empty if they do not."""


@frozen
class Verdict:
    """Whether the device works now. `running` is what becomes of running tasks while it does not."""

    paused: bool
    reason: str
    since_s: float
    running: str


def merged(defaults: Mapping[str, Any] | None, owner: Mapping[str, Any] | None) -> dict[str, Any]:
    """The cluster's defaults with the owner's policy over them, field by field: the owner has the last word."""
    found = {name: value for name, value in (defaults or {}).items() if value is not None}
    return found | {name: value for name, value in (owner or {}).items() if value is not None}


def decide(policy: Policy, state: State, readings: Readings, now: float) -> tuple[State, Verdict]:
    """The next state, and whether the device works. The same readings and times give the same answer."""
    power = _power(state, readings)
    looked = {rule.name: _looked(policy, rule, state, readings, now) for rule in policy.rules}
    wanting = [_in_words(name, each, power) for name, each in looked.items() if each.pausing]
    content_since = None if wanting else now if state.content_since is None else state.content_since
    settling = not wanting and bool(state.rules_say) and not _calm(policy, content_since, now)
    rules_say = "; ".join(wanting) if wanting else state.rules_say if settling else ""
    paused = bool(rules_say or readings.orders)
    since = now if state.since is None or paused != state.paused else state.since
    after = State(
        paused=paused,
        since=since,
        content_since=content_since,
        rules_say=rules_say,
        memories=looked,
        on_battery_since=power,
        charging=state.charging if readings.charging is None else readings.charging,
    )
    words = [order.reason for order in readings.orders] + ([rules_say] if rules_say else [])
    reason = "; ".join(words) + (_settling(policy) if settling else "")
    return after, Verdict(paused, reason, max(0.0, now - since), _running(policy, readings, bool(rules_say)))


def _calm(policy: Policy, content_since: float | None, now: float) -> bool:
    return content_since is not None and now - content_since >= policy.min_dwell_s


def _settling(policy: Policy) -> str:
    return f" (over; goes on once it has been so for {format_duration(policy.min_dwell_s)})"


def _running(policy: Policy, readings: Readings, by_rules: bool) -> str:
    """The strongest of what the rules and the orders want of running tasks."""
    wanted = {order.running for order in readings.orders} | ({policy.on_pause} if by_rules else set())
    return next((each for each in (HAND_BACK, SUSPEND) if each in wanted), CONTINUE)


def _looked(policy: Policy, rule: Rule, state: State, readings: Readings, now: float) -> Memory:
    """What a rule says; where it cannot tell, what it said last, for a while."""
    before = state.memories.get(rule.name)
    answer = rule.look(readings, before is not None and before.pausing)
    if answer is not None:
        return Memory(*answer, now)
    if before is not None and before.words != UNKNOWN and now - before.at < UNKNOWN_KEEPS_S:
        return before
    return Memory(policy.unknown == PAUSE, UNKNOWN, now)


def _in_words(name: str, said: Memory, power: str) -> str:
    if said.words == UNKNOWN:
        return f"{name}: {UNKNOWN}"
    return said.words.replace(ON_BATTERY, f"{ON_BATTERY} since {power}") if power else said.words


def _power(state: State, readings: Readings) -> str:
    """When the device lost its power, if that was seen."""
    if readings.charging is None:
        return state.on_battery_since
    if readings.charging:
        return ""
    if state.charging and readings.local is not None:
        return readings.local.strftime("%H:%M")
    return state.on_battery_since


# The rules


def _rules(said: Mapping[str, Any]) -> list[Rule]:
    makers: dict[str, Callable[[Any], list[Rule]]] = {
        "only_when_charging": lambda wanted: [Rule("power", _charging)] if wanted else [],
        "battery": lambda wanted: [Rule("battery", _battery(wanted))],
        "temperature": lambda wanted: [Rule("temperature", _temperature(wanted))],
        "hours": lambda wanted: [Rule("hours", _hours(tuple(map(parse_window, wanted))))] if wanted else [],
        "owner_away_min": lambda wanted: [Rule("owner", _owner(60.0 * wanted))] if wanted else [],
        "max_load": lambda wanted: [Rule("load", _load(wanted))],
        "metered": lambda wanted: [Rule("network", _metered)] if wanted == "deny" else [],
        "signals": lambda wanted: [Rule(f"signal {name}", _signal(name, each)) for name, each in wanted.items()],
    }
    return [rule for name, make in makers.items() if name in said for rule in make(said[name])]


def _charging(readings: Readings, _before: bool) -> Answer:
    return None if readings.charging is None else (not readings.charging, ON_BATTERY)


def _battery(wanted: Mapping[str, float]) -> Look:
    pause_below = wanted["pause_below"]
    resume_above = _battery_resume(wanted)

    def look(readings: Readings, before: bool) -> Answer:
        level = readings.battery_percent
        if readings.charging:
            return False, ""  # what is taken out comes in again
        if level is None:
            return None
        # Words name the threshold that it is beyond: the one for pausing, if it is beyond that.
        bound = resume_above if before and level >= pause_below else pause_below
        words = f"battery {level:.0f} % < {bound:g} %"
        return level < bound, words + (f", {ON_BATTERY}" if readings.charging is False else "")

    return look


def _battery_resume(wanted: Mapping[str, float]) -> float:
    named = wanted.get("resume_above")
    return min(100.0, wanted["pause_below"] + BATTERY_GAP) if named is None else named


def _temperature(wanted: Mapping[str, float]) -> Look:
    pause_above = wanted["pause_above"]
    named = wanted.get("resume_below")
    resume_below = pause_above - TEMPERATURE_GAP_C if named is None else named

    def look(readings: Readings, before: bool) -> Answer:
        if readings.temperature_c is None:
            return None
        heat_c = readings.temperature_c
        bound = resume_below if before and heat_c <= pause_above else pause_above
        return heat_c > bound, f"temperature {heat_c:.0f} °C > {bound:g} °C"

    return look


def _hours(windows: tuple[Window, ...]) -> Look:
    def look(readings: Readings, _before: bool) -> Answer:
        is_open = None if readings.local is None else open_now(windows, readings.local)
        return None if is_open is None else (not is_open, "outside its hours")

    return look


def _owner(away_s: float) -> Look:
    def look(readings: Readings, _before: bool) -> Answer:
        if readings.owner_away_s is None:
            return None
        words = f"its owner was there {format_duration(readings.owner_away_s)} ago, less than {format_duration(away_s)}"
        return readings.owner_away_s < away_s, words

    return look


def _load(max_load: float) -> Look:
    def look(readings: Readings, before: bool) -> Answer:
        if readings.load is None:
            return None
        bound = RESUME_LOAD_SHARE * max_load if before and readings.load <= max_load else max_load
        return readings.load > bound, f"load of others {readings.load:.2g} > {bound:g}"

    return look


def _metered(readings: Readings, _before: bool) -> Answer:
    return None if readings.metered is None else (readings.metered, "the network is metered")


def _signal(name: str, wanted: Mapping[str, float | None]) -> Look:
    least, most = wanted.get("min"), wanted.get("max")

    def look(readings: Readings, _before: bool) -> Answer:
        value = readings.signals.get(name)
        if value is None:
            return None
        if most is not None and value > most:
            return True, f"{name} {value:g} > {most:g}"
        if least is not None and value < least:
            return True, f"{name} {value:g} < {least:g}"
        return False, ""

    return look
