"""When a device works for the cluster: its owner's comfort policy. Pure: `decide(policy, state, readings, now)`.

Each rule looks at one reading. A rule that asks for a pause gets it at once; the device works again only when all rules
have been content for `min_dwell_s` without a break, so that a reading that goes up and down does not make the device
go on and off with it; for longer, if it does all the same (see `patience`). Battery and temperature have two thresholds
each for the same reason, and signals may have.

A reading that is not known leaves its rule as it was for `UNKNOWN_KEEPS_S`; after that, `unknown` decides: `run` (the
default: nobody is kept from working by what his device cannot tell) or `pause` (the default of `metered`: what nobody
sees may cost money). A signal that is over is no sensor that is silent for a moment: there `unknown` decides at once. A
pause for want of power lasts until power is seen: a phone whose sensor fell silent is not run flat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import field, frozen

from retirecluster.domain.hours import Window, open_now, parse_window
from retirecluster.domain.patience import Patience
from retirecluster.domain.units import format_duration

CONTINUE, SUSPEND, HAND_BACK = "continue", "suspend", "hand_back"
STRONGEST_FIRST = (HAND_BACK, SUSPEND, CONTINUE)
RUN, PAUSE = "run", "pause"
POWER, BATTERY, TEMPERATURE, HOURS = "power", "battery", "temperature", "hours"
OWNER, LOAD, NETWORK, SIGNAL = "owner", "load", "network", "signal "
"""Names of the rules; that of a signal's begins with `SIGNAL`. The main tells by them what would end a pause."""
UNKNOWN_KEEPS_S = 300.0
DEFAULT_DWELL_S = 60.0
UNKNOWN = "not known"
LASTING = (POWER, BATTERY)
"""Rules whose pause outlasts their reading, once it was known."""
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
    keeps_s: float = UNKNOWN_KEEPS_S
    """How long it stays as it was while what it looks at is not known."""


@frozen
class Policy:
    """A policy, ready to decide with."""

    rules: tuple[Rule, ...] = ()
    min_dwell_s: float = DEFAULT_DWELL_S
    on_pause: str = CONTINUE
    unknown: str | None = None
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
            unknown=said.get("unknown"),
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
    patience: Patience = field(factory=Patience)


@frozen
class Asking:
    """A rule that asks for a pause, by name; `known`: what it looks at is."""

    rule: str
    known: bool = True


@frozen
class Verdict:
    """Whether the device works now. `running` is what becomes of running tasks while it does not."""

    paused: bool
    reason: str
    since_s: float
    running: str
    asking: tuple[Asking, ...] = ()
    settling: bool = False
    """No rule asks any more, but not for long enough yet."""
    untold: tuple[str, ...] = ()
    """Rules, by name, whose readings are not known now."""


def merged(defaults: Mapping[str, Any] | None, owner: Mapping[str, Any] | None) -> dict[str, Any]:
    """The cluster's defaults with the owner's policy over them, field by field: the owner has the last word."""
    found = {name: value for name, value in (defaults or {}).items() if value is not None}
    return found | {name: value for name, value in (owner or {}).items() if value is not None}


def decide(policy: Policy, state: State, readings: Readings, now: float) -> tuple[State, Verdict]:
    """The next state, and whether the device works. The same readings and times give the same answer."""
    power = _power(state, readings)
    looked = {rule.name: _looked(policy, rule, state, readings, now) for rule in policy.rules}
    wanting = [_in_words(name, each, power, readings, now) for name, each in looked.items() if each.pausing]
    content_since = None if wanting else now if state.content_since is None else state.content_since
    patience = state.patience.paused(now) if wanting and not state.rules_say else state.patience
    dwell_s = patience.dwell_s(policy.min_dwell_s)
    settling = content_since is not None and bool(state.rules_say) and now - content_since < dwell_s
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
        patience=patience.worked(now) if state.rules_say and not rules_say else patience,
    )
    words = [order.reason for order in readings.orders] + ([rules_say] if rules_say else [])
    reason = "; ".join(words) + (_settling(dwell_s, patience) if settling else "")
    running = _running(policy, readings, bool(rules_say))
    asking = tuple(Asking(name, each.words != UNKNOWN) for name, each in looked.items() if each.pausing)
    untold = tuple(name for name, each in looked.items() if each.words == UNKNOWN or each.at != now)
    return after, Verdict(paused, reason, max(0.0, now - since), running, asking, settling, untold)


def remembered(policy: Policy, pausing: Mapping[str, str], on_battery_since: str, now: float) -> State:
    """The state to begin with after a restart: `pausing` are the rules that asked for a pause, with their words. What
    was below a threshold has to get above the higher one, and stay there, as if there had been no restart."""
    names = {rule.name for rule in policy.rules}
    kept = {name: Memory(True, words, now) for name, words in pausing.items() if name in names and words != UNKNOWN}
    return State(
        paused=bool(kept),
        since=now if kept else None,
        memories=kept,
        on_battery_since=on_battery_since,
        charging=False if on_battery_since else None,
        rules_say="; ".join(_in_words(name, each, on_battery_since, Readings(), now) for name, each in kept.items()),
    )


def _settling(dwell_s: float, patience: Patience) -> str:
    why = f", as it came again soon {patience.soon} times" if patience.soon > 1 else ""
    return f" (over; goes on once it has been so for {format_duration(dwell_s)}{why})"


def _running(policy: Policy, readings: Readings, by_rules: bool) -> str:
    """The strongest of what the rules and the orders want of running tasks."""
    wanted = {order.running for order in readings.orders} | ({policy.on_pause} if by_rules else set())
    return next((each for each in STRONGEST_FIRST if each in wanted), CONTINUE)


def _looked(policy: Policy, rule: Rule, state: State, readings: Readings, now: float) -> Memory:
    """What a rule says; where it cannot tell, what it said last, for a while."""
    before = state.memories.get(rule.name)
    answer = rule.look(readings, before is not None and before.pausing)
    if answer is not None:
        return Memory(*answer, now)
    if before is not None and _still_counts(rule, before, now):
        return before
    by_default = PAUSE if rule.name == NETWORK else RUN
    return Memory((policy.unknown or by_default) == PAUSE, UNKNOWN, now)


def _still_counts(rule: Rule, before: Memory, now: float) -> bool:
    """Whether what a rule said last stands while it cannot tell."""
    lasts = before.pausing and rule.name in LASTING
    return before.words != UNKNOWN and (lasts or now - before.at < rule.keeps_s)


def _in_words(name: str, said: Memory, power: str, readings: Readings, now: float) -> str:
    if said.words == UNKNOWN:
        return f"{name}: {UNKNOWN}"
    words = said.words.replace(ON_BATTERY, f"{ON_BATTERY} since {power}") if power else said.words
    silent_s = now - said.at
    if silent_s < UNKNOWN_KEEPS_S:
        return words
    if readings.local is None:
        return f"{words} ({UNKNOWN} any more)"
    return f"{words} ({UNKNOWN} since {readings.local - timedelta(seconds=silent_s):%H:%M})"


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
        "only_when_charging": lambda wanted: [Rule(POWER, _charging)] if wanted else [],
        "battery": lambda wanted: [Rule(BATTERY, _battery(wanted))],
        "temperature": lambda wanted: [Rule(TEMPERATURE, _temperature(wanted))],
        "hours": lambda wanted: [Rule(HOURS, _hours(tuple(map(parse_window, wanted))))] if wanted else [],
        "owner_away_min": lambda wanted: [Rule(OWNER, _owner(60.0 * wanted))] if wanted else [],
        "max_load": lambda wanted: [Rule(LOAD, _load(wanted))],
        "metered": lambda wanted: [Rule(NETWORK, _metered)] if wanted == "deny" else [],
        "signals": lambda wanted: [Rule(f"{SIGNAL}{name}", _signal(name, each), 0.0) for name, each in wanted.items()],
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
    above, below = wanted.get("resume_above"), wanted.get("resume_below")

    def look(readings: Readings, before: bool) -> Answer:
        value = readings.signals.get(name)
        if value is None:
            return None
        # As for the battery: words name the threshold that it is beyond.
        highest = most if below is None or not before or most is None or value > most else below
        lowest = least if above is None or not before or least is None or value < least else above
        if highest is not None and value > highest:
            return True, f"{name} {value:g} > {highest:g}"
        if lowest is not None and value < lowest:
            return True, f"{name} {value:g} < {lowest:g}"
        return False, ""

    return look
