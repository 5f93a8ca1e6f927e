"""The nearest changes that would let a waiting task run: smallest first, in words and as data.

A change is what one device and one task need of each other: a fact of the task to ask less of, an owner's pause to
end, a device to start. The fewer of them together, and the easier each, the nearer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import floor
from typing import Any

from attrs import evolve, fields, frozen

from retirecluster.domain.devices import DeviceProfile, Presence
from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler.picture import Device, Task
from retirecluster.domain.units import GIB

SHOWN = 3
EASY, MEDIUM, HARD = 1, 3, 10
"""What one step costs, roughly: a word to the cluster or a plug; another demand; another machine."""
_SIZES = ("min_cpu_cores", "min_memory_bytes", "min_storage_bytes", "isolation")
_NOT_SIZES = [each for each in fields(Requirements) if each.name not in _SIZES]


@frozen
class Step:
    """One thing to do. `change` is its kind for programs, `cost` how much it is to ask."""

    cost: int
    change: str
    words: str
    field: str | None = None
    value: Any = None


def nearest(task: Task, devices: Iterable[Device]) -> list[dict[str, Any]]:
    """The nearest changes, at most `SHOWN`: `{"device_id", "text", "steps": [{"change", "text", "field", "value"}]}`.

    Nothing where a device is merely busy: time alone helps there.
    """
    found: list[tuple[int, int, str, list[Step]]] = []
    for device in devices:
        steps = [*_of_device(device), *_of_task(task, device.profile)]
        if not steps:
            return []  # it fits and takes tasks: it is busy, or next
        found.append((sum(step.cost for step in steps), len(steps), device.device_id, steps))
    told: list[dict[str, Any]] = []
    enough: list[set[str]] = []
    for _, _, device_id, steps in sorted(found, key=lambda each: each[:3]):
        asked = {step.words for step in steps}
        if any(each <= asked for each in enough):
            continue  # a part of it is enough already
        enough.append(asked)
        text = " and ".join(step.words for step in steps)
        told.append({"device_id": device_id, "text": text, "steps": [_document(step) for step in steps]})
        if len(told) == SHOWN:
            break
    return told


def in_words(changes: list[dict[str, Any]]) -> str:
    """All of them as one sentence: any of them is enough."""
    return ", or ".join(each["text"] for each in changes)


def _document(step: Step) -> dict[str, Any]:
    return {"change": step.change, "text": step.words, "field": step.field, "value": step.value}


def _of_device(device: Device) -> Iterator[Step]:
    """What keeps the device from taking any task."""
    name = device.device_id
    if device.presence is not Presence.ONLINE:
        yield Step(MEDIUM, "start", f"start {name}")
        return
    if device.suspect:
        yield Step(MEDIUM, "release", f"release {name}, on which its worker died more than once")
    elif device.quarantine:
        yield Step(MEDIUM, "release", f"release {name} from quarantine")
    if device.draining:
        yield Step(EASY, "undrain", f"undrain {name}")
    if device.cordoned:
        yield Step(EASY, "uncordon", f"uncordon {name}")
    if device.resting:
        yield Step(EASY, "end_rest", f"end the rest of {name} ({device.resting})")
    if device.pause is not None and device.pause.reason != device.resting:
        yield _end_of_pause(name, device.pause.reason)
    elif device.pausing and not device.resting:
        yield Step(MEDIUM, "wait", f"wait until {name} is tried again ({device.pausing})")


def _end_of_pause(name: str, reason: str) -> Step:
    if "battery" in reason:
        return Step(EASY, "plug_in", f"plug in {name}")
    return Step(MEDIUM, "end_pause", f"let {name} work again ({reason})")


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
            yield _without(each.name, getattr(demand, each.name), name)
    if misfits(Requirements()):
        lacks = unmet(Requirements(), task.task_type, queue.needs_journal, profile)
        yield Step(HARD, "update", f"update the worker of {name}, which {' and '.join(lacks)}")


def _without(field: str, wanted: Any, device_id: str) -> Step:
    if field == "role":
        return Step(EASY, "give_role", f"give {device_id} the role {wanted}", field, wanted)
    if field == "tags":
        missing = sorted(wanted)
        return Step(MEDIUM, "give_tags", f"give {device_id} the tags {', '.join(missing)}", field, missing)
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
            yield Step(MEDIUM, "lower", f"lower {name} to {value:g}", name, value)
    if demand.isolation > profile.isolation:
        value = profile.isolation
        yield Step(MEDIUM, "lower", f"lower isolation to {value}", "isolation", value)
