"""The nearest changes that would let a waiting task run: smallest first, in words and as data.

A change is what one device and one task need of each other: a fact of the task to ask less of, an owner's pause to
end, a device to start. The easier each, the fewer of them together, and the less is given up of what the task asks for,
the nearer. What a paused device needs follows from the rules that it names (`Pause.rules`), never from its sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import floor
from typing import Any

from attrs import evolve, fields, frozen

from retirecluster.domain.devices import DeviceProfile, Presence
from retirecluster.domain.policy import BATTERY, HOURS, LOAD, NETWORK, OWNER, POWER, SIGNAL, TEMPERATURE, Asking
from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler.picture import Device, Pause, Task
from retirecluster.domain.units import GIB

SHOWN = 3
EASY, MEDIUM, HARD = 1, 3, 10
"""What one step costs, roughly: a word to the cluster or a plug; another demand; another machine."""
_SIZES = ("min_cpu_cores", "min_memory_bytes", "min_storage_bytes", "isolation")
_NOT_SIZES = [each for each in fields(Requirements) if each.name not in _SIZES]


@frozen
class Step:
    """One thing to do. `change` is its kind for programs, `cost` how much it is to ask; `given_up` (0 to 1) is the part
    of a demand that is lowered."""

    cost: int
    change: str
    words: str
    field: str | None = None
    value: Any = None
    given_up: float = 0.0

    def covers(self, other: Step) -> bool:
        """Whether whoever does `other` has done this, too: the same, or no more of a demand is given up."""
        if self.change == other.change == "lower" and self.field == other.field:
            return bool(self.value >= other.value)
        return self.words == other.words


@frozen
class Change:
    """All that one device and the task need of each other."""

    device_id: str
    steps: tuple[Step, ...]

    def distance(self) -> tuple[int, int, float, str]:
        """What changes are sorted by, the nearest first."""
        steps = self.steps
        return sum(each.cost for each in steps), len(steps), sum(each.given_up for each in steps), self.device_id

    def covers(self, other: Change) -> bool:
        """Whether `other` asks for all of this, and perhaps for more."""
        return all(any(mine.covers(each) for each in other.steps) for mine in self.steps)

    def document(self) -> dict[str, Any]:
        """As `nearest` tells it."""
        text = " and ".join(step.words for step in self.steps)
        return {"device_id": self.device_id, "text": text, "steps": [_document(step) for step in self.steps]}


def never(_: Device) -> str | None:
    """No device can be woken."""
    return None


def nearest(
    task: Task, devices: Iterable[Device], woken: Callable[[Device], str | None] = never
) -> list[dict[str, Any]]:
    """The nearest changes, at most `SHOWN`: `{"device_id", "text", "steps": [{"change", "text", "field", "value"}]}`.

    Nothing where a device is merely busy: time alone helps there. `woken` tells of a device that is away when it was
    woken, in words that may be empty; None if it does not sleep or cannot be woken.
    """
    found: list[Change] = []
    for device in devices:
        steps = (*_of_device(device, woken), *_of_task(task, device.profile))
        if not steps:
            return []  # it fits and takes tasks: it is busy, or next
        found.append(Change(device.device_id, steps))
    told: list[Change] = []
    for change in sorted(found, key=Change.distance):
        if not any(each.covers(change) for each in told):  # else a part of it, or less of it, is enough already
            told.append(change)
        if len(told) == SHOWN:
            break
    return [each.document() for each in told]


def in_words(changes: list[dict[str, Any]]) -> str:
    """All of them as one sentence: any of them is enough."""
    return ", or ".join(each["text"] for each in changes)


def _document(step: Step) -> dict[str, Any]:
    return {"change": step.change, "text": step.words, "field": step.field, "value": step.value}


def _of_device(device: Device, woken: Callable[[Device], str | None]) -> Iterator[Step]:
    """What keeps the device from taking any task."""
    name, online = device.device_id, device.presence is Presence.ONLINE
    if not online:
        yield _to_be_there(device, woken)
    if device.suspect:
        yield Step(MEDIUM, "release", f"release {name}, on which its worker died more than once")
    elif device.quarantine:
        yield Step(MEDIUM, "release", f"release {name} from quarantine")
    if device.draining and (online or device.drain_until_at is not None):  # without a deadline it ends with the session
        yield Step(EASY, "undrain", f"undrain {name}")
    if device.cordoned:
        yield Step(EASY, "uncordon", f"uncordon {name}")
    if device.resting:
        yield Step(EASY, "end_rest", f"end the rest of {name} ({device.resting})")
    if not online:
        return  # whether it will still be paused is not known
    if device.pause is not None:
        yield from _ends_of_pause(device, device.pause)
    elif device.pausing and not device.resting:
        yield Step(MEDIUM, "wait", f"wait until {name} is tried again ({device.pausing})")


def _to_be_there(device: Device, woken: Callable[[Device], str | None]) -> Step:
    when = woken(device)
    if when is None:
        return Step(MEDIUM, "start", f"start {device.device_id}")
    return Step(EASY, "wake", f"wake {device.device_id}" + (f" ({when})" if when else ""))


def _ends_of_pause(device: Device, pause: Pause) -> Iterator[Step]:
    """One step for each rule of its owner's policy that keeps the device from working."""
    name = device.device_id
    if pause.rules is None:  # a worker that does not name its rules
        if pause.reason != device.resting:
            yield Step(MEDIUM, "end_pause", f"let {name} work again ({pause.reason})")
        return
    if pause.settling:
        yield Step(EASY, "wait", f"wait until {name} goes on ({pause.reason})")
    elif not pause.rules and not device.resting:
        yield Step(MEDIUM, "end_pause", f"let {name} work again ({pause.reason})")
    seen: set[str] = set()
    for each in pause.rules:
        step = _end_of(name, each)
        if step.words not in seen:
            seen.add(step.words)
            yield step


_WAITS = {
    TEMPERATURE: "wait until {} is cooler",
    HOURS: "wait for the hours of {}",
    OWNER: "wait until the owner of {} is away",
    LOAD: "wait until there is less other load on {}",
}


def _end_of(name: str, asking: Asking) -> Step:
    """What ends a rule's wish for a pause."""
    if not asking.known:
        return Step(MEDIUM, "end_pause", f"let {name} work although its {asking.rule} is not known")
    if asking.rule in (POWER, BATTERY):  # with power from outside neither asks for a pause
        return Step(EASY, "plug_in", f"plug in {name}")
    if asking.rule == NETWORK:
        return Step(MEDIUM, "change_network", f"connect {name} to a network that is not metered")
    if asking.rule.startswith(SIGNAL):
        return Step(MEDIUM, "wait", f"wait for the {asking.rule} on {name}")
    if asking.rule in _WAITS:
        return Step(MEDIUM, "wait", _WAITS[asking.rule].format(name))
    return Step(MEDIUM, "end_pause", f"let {name} work again (its rule {asking.rule})")


def _of_task(task: Task, profile: DeviceProfile) -> Iterator[Step]:
    """What the task asks for that the device has not: to what a demand can be lowered, or that it must go."""
    queue, name = task.queue, profile.device_id
    demand = queue.demand

    def misfits(wish: Requirements) -> int:
        return len(unmet(wish, task.task_type, queue.needs_journal, profile))

    count = misfits(demand)
    if not count:
        return
    yield from _lowered(demand, profile)
    for each in _NOT_SIZES:
        without: dict[str, Any] = {each.name: each.default}
        if misfits(evolve(demand, **without)) < count:
            yield _without(each.name, getattr(demand, each.name), profile)
    if misfits(Requirements()):
        lacks = unmet(Requirements(), task.task_type, queue.needs_journal, profile)
        yield Step(HARD, "update", f"update the worker of {name}, which {' and '.join(lacks)}")


def _without(field: str, wanted: Any, profile: DeviceProfile) -> Step:
    if field == "role":
        return Step(EASY, "give_role", f"give {profile.device_id} the role {wanted}", field, wanted)
    if field == "tags":
        missing = sorted(wanted - profile.tags)
        what = f"the tag{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
        return Step(MEDIUM, "give_tags", f"give {profile.device_id} {what}", field, missing)
    said = sorted(wanted) if isinstance(wanted, frozenset) else wanted
    shown = ", ".join(said) if isinstance(said, list) else "" if said is True else str(said)
    return Step(HARD, "drop", f"drop {field} {shown}".rstrip(), field, None)


def _lowered(demand: Requirements, profile: DeviceProfile) -> Iterator[Step]:
    sizes = (
        ("min_cpu_cores", demand.min_cpu_cores, profile.cpu_cores, 1),
        ("min_memory_gb", demand.min_memory_bytes, profile.memory_bytes, GIB),
        ("min_storage_gb", demand.min_storage_bytes, profile.storage_bytes, GIB),
    )
    for name, wanted, there, unit in sizes:
        if wanted > there:
            value = floor(100 * there / unit) / 100
            yield Step(MEDIUM, "lower", f"lower {name} to {value:g}", name, value, 1 - there / wanted)
    if demand.isolation > profile.isolation:
        value, given_up = profile.isolation, 1 - profile.isolation / demand.isolation
        yield Step(MEDIUM, "lower", f"lower isolation to {value}", "isolation", value, given_up)
