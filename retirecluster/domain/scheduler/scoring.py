"""How good a device would be for one more task of a type: a few named factors, weighed by a strategy.

A score is the product of `factor ** weight` over the factors that the strategy weighs; the device with room that has
the highest score goes first. Every factor is a positive number and 1 where nothing is known, so that a device is never
punished for what it cannot tell. Figures that make no sense (not a number, below zero, beyond all bounds) are clamped:
a device that reports nonsense can be placed badly, but cannot upset placement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isnan
from typing import Any

from attrs import Factory, field, frozen

from retirecluster.domain.scheduler.picture import Device

BENCHMARK_WORTH = 3
"""So many measured tasks of a type count as much as what the device's benchmark said."""
SLOWEST, FASTEST = 1e-3, 1e3
SHORTEST_S, LONGEST_S = 1e-4, 1e8
MEMORY_TIGHT_PERCENT = 80.0
WARM_C, HOT_C = 60.0, 90.0
LEAST_TRUST = 0.05
WATTS_LABEL = "watts"
"""The label by which an owner says what the device draws under full load, in watts."""


def bounded(value: Any, low: float, high: float, otherwise: float) -> float:
    """`value` as a number from `low` to `high`; `otherwise` where it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return otherwise
    return otherwise if isnan(number) else min(max(number, low), high)


# Each factor: (device, task type, work_s) to a positive number. `work_s` is what a task of the type takes on a device
# of speed 1, as measured over the whole cluster; None where nothing of the type was measured yet.


def speed(device: Device, task_type: str, work_s: float | None) -> float:
    """How fast the device is for this type; 1 is a common laptop.

    What its benchmark said counts as `BENCHMARK_WORTH` measurements; measured durations of this type on this device
    outweigh it as they become more. Blended as logarithms, as twice as fast and half as fast are equally far from 1.
    """
    announced = bounded(device.profile.speed, SLOWEST, FASTEST, 1.0)
    known = device.durations.get(task_type)
    if known is None or work_s is None:
        return announced
    count, taken_s = known  # from `Queues.measured`, which bounds what it takes
    measured = min(max(work_s / taken_s, SLOWEST), FASTEST)
    share = count / (count + BENCHMARK_WORTH)
    blended: float = announced * (measured / announced) ** share
    return blended


def load(device: Device, task_type: str, work_s: float | None) -> float:
    """How much of it is free of our own tasks: 1 for an idle device, 0.5 when all slots are taken."""
    return 1.0 / (1.0 + min(len(device.attempts) / max(device.profile.slots, 1), 100.0))


def awake(device: Device, task_type: str, work_s: float | None) -> float:
    """Whether it works for the cluster already: 1, else 0.5."""
    return 1.0 if device.attempts else 0.5


def owner(device: Device, task_type: str, work_s: float | None) -> float:
    """What the owner's own use leaves: 1 to 0.5. While tasks of ours run, the figure is mostly ours and not counted."""
    if device.attempts:
        return 1.0
    return 1.0 / (1.0 + bounded(device.metrics.get("cpu_usage"), 0, 100, 0) / 100)


def memory(device: Device, task_type: str, work_s: float | None) -> float:
    """Free memory: 1 up to 80 % in use, then down to 0.4 when it is full."""
    used = bounded(device.metrics.get("memory_usage"), 0, 100, 0)
    return 1.0 - 0.6 * max(0.0, used - MEMORY_TIGHT_PERCENT) / (100 - MEMORY_TIGHT_PERCENT)


def battery(device: Device, task_type: str, work_s: float | None) -> float:
    """1 with power from outside; on battery 0.9 when it is full, down to 0.4 when it is empty."""
    said = device.metrics.get("battery")
    if not isinstance(said, Mapping) or said.get("charging") is not False:
        return 1.0
    return 0.4 + 0.5 * bounded(said.get("level"), 0, 100, 50) / 100


def heat(device: Device, task_type: str, work_s: float | None) -> float:
    """1 up to 60 degrees Celsius, down to 0.5 at 90; half of that while the device throttles itself."""
    hot = bounded(device.metrics.get("temperature"), WARM_C, HOT_C, WARM_C)
    throttling = device.metrics.get("throttling")
    now = throttling.get("now") if isinstance(throttling, Mapping) else None
    return (1.0 - 0.5 * (hot - WARM_C) / (HOT_C - WARM_C)) * (0.5 if now else 1.0)


def trust(device: Device, task_type: str, work_s: float | None) -> float:
    """How far it can be relied upon: its trust score, 0.05 at least."""
    return bounded(device.trust, LEAST_TRUST, 1.0, LEAST_TRUST)


def energy(device: Device, task_type: str, work_s: float | None) -> float:
    """Work for each watt, relative to a common laptop: its speed for the type over what one busy slot draws."""
    return speed(device, task_type, work_s) * 10.0 / (watts(device) / max(device.profile.slots, 1))


def watts(device: Device) -> float:
    """What the device draws under full load: its label `watts`, else a guess by what it is."""
    labels = device.register.get("labels")
    said = labels.get(WATTS_LABEL) if isinstance(labels, Mapping) else None
    cores = bounded(device.profile.cpu_cores, 1, 4096, 1)
    if device.profile.role == "mobile":
        guess = 1.0 + 0.6 * cores
    elif device.profile.architecture.startswith(("arm", "aarch")):
        guess = 1.5 + 1.2 * cores
    else:
        guess = 10.0 + 7.5 * cores
    return bounded(said, 0.1, 1e5, guess)


Factor = Callable[[Device, str, "float | None"], float]
FACTORS: dict[str, Factor] = {
    each.__name__: each for each in (speed, load, awake, owner, memory, battery, heat, trust, energy)
}
FILES = "files"
"""The one factor that is of a task and not of a type: 1 where the device has all of its inputs, 0.6 where none."""


def files(there: int, wanted: int) -> float:
    """`there` of `wanted` inputs need not be fetched."""
    return 0.6 + 0.4 * there / wanted if wanted else 1.0


STEADY = ("memory", "battery", "heat", "trust")
"""Factors that change with what the device reports alone."""


@frozen(eq=False)
class Steady:
    """The `STEADY` part of a device's score, and what it was worked out from: a grant changes nothing about it."""

    strategy: Strategy
    metrics: Mapping[str, Any]
    trust: float
    value: float


@frozen
class Strategy:
    """What placement is to optimise. Factors that `weights` does not name do not count.

    A negative weight turns a factor round: less of it is better. `waits`: the last long tasks may wait for a faster
    device that is soon free, rather than begin on a slow one.
    """

    name: str
    doc: str
    weights: Mapping[str, float]
    waits: bool = False
    _changing: tuple[tuple[str, float], ...] = field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(lambda self: tuple(each for each in self.weights.items() if each[0] not in STEADY), True),
    )

    def score(self, device: Device, task_type: str, work_s: float | None) -> float:
        """How good the device would be for one more task of the type; higher is better, always above 0."""
        steady = device.steady
        if (
            steady is None
            or steady.metrics is not device.metrics
            or steady.trust != device.trust
            or steady.strategy is not self
        ):
            value = self._product([(name, self.weights.get(name, 0)) for name in STEADY], device, "", None)
            steady = device.steady = Steady(self, device.metrics, device.trust, value)
        total = steady.value * self._product(self._changing, device, task_type, work_s)
        return min(max(total, 1e-30), 1e30)

    @staticmethod
    def _product(weights: Iterable[tuple[str, float]], device: Device, task_type: str, work_s: float | None) -> float:
        total = 1.0
        for name, weight in weights:
            if name in FACTORS:
                value = FACTORS[name](device, task_type, work_s)
                if value != 1.0:
                    total *= value if weight == 1 else value**weight
        return total

    def factors(self, device: Device, task_type: str, work_s: float | None) -> dict[str, float]:
        """The factors behind `score`, before they are weighed; for people."""
        return {name: FACTORS[name](device, task_type, work_s) for name in self.weights if name in FACTORS}

    def locality(self, there: int, wanted: int) -> float:
        """What the score is multiplied with for the inputs that are on the device already."""
        value: float = files(there, wanted) ** self.weights.get(FILES, 0.0)
        return value


_STATE = {"owner": 1, "memory": 1, "battery": 1, "heat": 1, "trust": 1, FILES: 1}
STRATEGIES = {
    each.name: each
    for each in (
        Strategy(
            "fastest_finish",
            "everything is done as early as possible: fast devices first, and the last long tasks wait for one",
            {"speed": 1, "load": 0.25, **_STATE},
            waits=True,
        ),
        Strategy(
            "spread",
            "every device does a little: idle ones first, then those with the smallest share of slots taken",
            {"awake": -4, "load": 8, "speed": 0.25, **_STATE},
        ),
        Strategy(
            "pack",
            "few devices do all, as full as they may be, so that the others can sleep",
            {"awake": 4, "load": -4, "speed": 0.25, **_STATE},
        ),
        Strategy(
            "save_energy",
            "the least energy for each task: by speed and power, and no batteries if that can be",
            {"energy": 1, "awake": 0.5, **_STATE, "battery": 2},
        ),
    )
}
DEFAULT_STRATEGY = "fastest_finish"


def expected_s(device: Device, task_type: str, work_s: float | None) -> float | None:
    """How long a task of the type is expected to run on the device, in seconds; None where nothing is measured."""
    if work_s is None:
        return None
    return bounded(work_s, SHORTEST_S, LONGEST_S, 1.0) / speed(device, task_type, work_s)


def condition(device: Device) -> tuple[int, int]:
    """What of a device's last report matters to placement, so coarse that it changes seldom."""
    of_it = memory(device, "", None) * battery(device, "", None) * heat(device, "", None)
    return round(10 * owner(device, "", None)), round(10 * of_it)
