"""What stands in a policy: the fields of the setting `policy`, of an owner and of the cluster alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retirecluster.domain.fields import Boolean, Field, ListOf, MapOf, Number, Problem, Problems, Record, Text
from retirecluster.domain.hours import parse_window

SIGNAL_NAME = Text(64, 1, pattern=r"[a-z][a-z0-9_.-]{0,63}", pattern_doc="small letters, digits and _ . - (64 at most)")
SIGNAL_VALUE = Number(-1e12, 1e12)
PERCENT = Number(0, 100)
DEGREES = Number(-50, 200)
ON_PAUSE = ("continue", "suspend", "hand_back")
BATTERY_RULE = Record(
    (
        Field("pause_below", PERCENT, "percent", required=True),
        Field("resume_above", PERCENT, "percent; left out: 10 more", nullable=True),
    ),
    closed=True,
)
TEMPERATURE_RULE = Record(
    (
        Field("pause_above", DEGREES, "degrees Celsius", required=True),
        Field("resume_below", DEGREES, "degrees Celsius; left out: 5 less", nullable=True),
    ),
    closed=True,
)
SIGNAL_RULE = Record(
    (
        Field("min", SIGNAL_VALUE, "work only at or above", nullable=True),
        Field("max", SIGNAL_VALUE, "work only at or below", nullable=True),
        Field(
            "resume_above",
            SIGNAL_VALUE,
            "after a pause for `min`, work again at or above; left out: `min`",
            nullable=True,
        ),
        Field(
            "resume_below",
            SIGNAL_VALUE,
            "after a pause for `max`, work again at or below; left out: `max`",
            nullable=True,
        ),
    ),
    closed=True,
)
POLICY = Record(
    (
        Field("only_when_charging", Boolean(), "work only while the device has power", nullable=True),
        Field("battery", BATTERY_RULE, "on battery, work only above a level", nullable=True),
        Field("temperature", TEMPERATURE_RULE, "work only below a temperature, of the hottest sensor", nullable=True),
        Field(
            "hours",
            ListOf(Text(100, 1), 64),
            "work only then, as `Mon-Fri 22:00-07:00`; an empty list: always",
            nullable=True,
        ),
        Field("zone", Text(64, 1), "time zone of `hours`, as Europe/Berlin; left out: the device's own", nullable=True),
        Field(
            "owner_away_min",
            Number(0, 10_080),
            "work only when nobody has used the device for so many minutes",
            nullable=True,
        ),
        Field(
            "max_load",
            Number(0.01, 10_000),
            "work only while others load the device less (one-minute average)",
            nullable=True,
        ),
        Field("metered", Text(choices=("allow", "deny")), "`deny`: no work while the network costs", nullable=True),
        Field(
            "max_cpu_share",
            Number(0.01, 1),
            "part of the processors that tasks may use; at least one whole",
            nullable=True,
        ),
        Field(
            "signals",
            MapOf(SIGNAL_RULE, 32, SIGNAL_NAME),
            "work only while signals of the cluster are so",
            nullable=True,
        ),
        Field(
            "min_dwell_s",
            Number(0, 86_400),
            "all must be well so long before it works again; default 60",
            nullable=True,
        ),
        Field("on_pause", Text(choices=ON_PAUSE), "what becomes of running tasks: default `continue`", nullable=True),
        Field(
            "unknown",
            Text(choices=("run", "pause")),
            "what a rule says whose reading is not known; default `run`, of `metered` `pause`",
            nullable=True,
        ),
    ),
    closed=True,
)


def policy_problems(document: Mapping[str, Any], path: str = "policy") -> Problems:
    """Everything wrong with a policy, by field; what stands against each other, too."""
    problems = POLICY.problems(document, path)
    if problems:
        return problems
    battery, temperature = document.get("battery") or {}, document.get("temperature") or {}
    if battery.get("resume_above") is not None and battery["resume_above"] < battery["pause_below"]:
        problems.append(Problem(f"{path}.battery.resume_above", "must not be below pause_below"))
    if temperature.get("resume_below") is not None and temperature["resume_below"] > temperature["pause_above"]:
        problems.append(Problem(f"{path}.temperature.resume_below", "must not be above pause_above"))
    for index, text in enumerate(document.get("hours") or ()):
        try:
            parse_window(text)
        except ValueError as error:
            problems.append(Problem(f"{path}.hours[{index}]", str(error)))
    for name, rule in (document.get("signals") or {}).items():
        problems += _signal_problems(rule, f"{path}.signals.{name}")
    return problems


def _signal_problems(rule: Mapping[str, Any], path: str) -> Problems:
    least, most = rule.get("min"), rule.get("max")
    above, below = rule.get("resume_above"), rule.get("resume_below")
    if least is None and most is None:
        return [Problem(path, "needs min or max")]
    if least is not None and most is not None and least > most:
        return [Problem(f"{path}.min", "must not be above max: the device would never work")]
    problems = []
    if above is not None and (least is None or above < least):
        problems.append(Problem(f"{path}.resume_above", "needs min, and must not be below it"))
    if below is not None and (most is None or below > most):
        problems.append(Problem(f"{path}.resume_below", "needs max, and must not be above it"))
    lowest, highest = least if above is None else above, most if below is None else below
    if not problems and lowest is not None and highest is not None and lowest > highest:
        problems.append(Problem(path, "the device would never work again: resume_above is above resume_below or max"))
    return problems


def policy_words(document: Mapping[str, Any]) -> list[str]:
    """A line for each field of a checked policy, as `battery: pause_below 40, resume_above 60`."""
    lines = []
    for name, value in document.items():
        each = {f"signal {signal}": rule for signal, rule in value.items()} if name == "signals" else {name: value}
        lines += [f"{what}: {_said(one)}" for what, one in each.items() if one is not None]
    return [line[:200] for line in lines][:64]


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {each:g}" for name, each in value.items() if each is not None)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "always"
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
