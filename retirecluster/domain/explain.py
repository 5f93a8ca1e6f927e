"""Why a task waits: for each device what stands in the way, and the nearest change that would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from retirecluster.domain.devices import Presence
from retirecluster.domain.lifecycle import State
from retirecluster.domain.nearest import in_words, nearest, never
from retirecluster.domain.scheduler.picture import Device, Task
from retirecluster.domain.units import GIB


def away_words(device: Device) -> str:
    """Why a device that is not there runs nothing."""
    return ": ".join(dict.fromkeys(each for each in (device.status, device.reason) if each))


def obstacles(task: Task, device: Device, away: Callable[[Device], str] = away_words) -> tuple[list[str], list[str]]:
    """(lasting reasons, passing reasons) why `device` does not run `task` now."""
    lasting = task.queue.misfit(device)
    passing = []
    if device.presence is not Presence.ONLINE:
        passing.append(away(device))
    elif not device.accepts:
        passing.append(f"{device.status}: {device.shown_reason or 'takes no new tasks'}")
    elif not lasting:
        passing += _no_room(task, device)
    return lasting, passing


def _no_room(task: Task, device: Device) -> list[str]:
    demand, profile = task.queue.demand, device.profile
    if len(device.attempts) >= profile.slots:
        return [f"busy: {len(device.attempts)} of {profile.slots} slots taken"]
    reasons = []
    free_cores = profile.cpu_cores - device.reserved_cores
    if demand.min_cpu_cores > free_cores:
        reasons.append(f"busy: {free_cores:g} of {profile.cpu_cores:g} cores are not reserved")
    free_bytes = profile.memory_bytes - device.reserved_bytes
    if demand.min_memory_bytes > free_bytes:
        free, total = free_bytes / GIB, profile.memory_bytes / GIB
        reasons.append(f"busy: {free:.3g} of {total:.3g} GiB of memory are not reserved")
    return reasons


def explain(
    task: Task,
    devices: Iterable[Device],
    away: Callable[[Device], str] = away_words,
    woken: Callable[[Device], str | None] = never,
) -> dict[str, Any]:
    """The answer of `tasks why` for a task that is not final: `reason`, `devices`, `hint`, `nearest` (see `nearest`),
    `copy` (see `explain_copy`).

    `away` tells why a device that is not there runs nothing, `woken` when it was woken (see `nearest`).
    """
    some = list(devices)
    rows = _rows(task, some, away)
    changes = nearest(task, some, woken) if task.state is State.QUEUED else []
    return {
        "task_id": task.task_id,
        "status": task.state.value,
        "reason": waiting_reason(task, rows, {device.device_id: device for device in some}),
        "devices": rows if task.state is State.QUEUED else [],
        "hint": _hint(task, rows, changes),
        "nearest": changes,
        "copy": None,
    }


def waiting_words(task: Task, devices: Iterable[Device], away: Callable[[Device], str] = away_words) -> str:
    """The `reason` of `explain` alone: what would help costs more than all the rest, and listings do not show it."""
    some = list(devices)
    return waiting_reason(task, _rows(task, some, away), {device.device_id: device for device in some})


def _rows(task: Task, devices: list[Device], away: Callable[[Device], str]) -> list[dict[str, Any]]:
    found = []
    for device in devices:
        lasting, passing = obstacles(task, device, away)
        found.append({"device_id": device.device_id, "fits": not lasting, "reasons": lasting + passing})
    return found


def explain_copy(task: Task, of_copy: dict[str, Any]) -> dict[str, Any]:
    """The answer for a verified task: what moves it is its live copy, whose own answer is `of_copy`."""
    copy_id, why = of_copy["task_id"], of_copy["reason"]
    words = f"{task.reason}; {copy_id} is {of_copy['status']}" + (f": {why}" if why else "")
    return of_copy | {"task_id": task.task_id, "status": task.state.value, "reason": words, "copy": copy_id}


def suspended_words(task: Task, devices: Mapping[str, Device]) -> str:
    """As `suspended: battery 31 % < 40 %` for a running task that stands still; empty for any other."""
    device = devices.get(task.device_id or "")
    if task.state is not State.RUNNING or device is None or not device.stands_still:
        return ""
    return f"suspended: {device.pausing}"


def waiting_reason(task: Task, rows: list[dict[str, Any]], devices: Mapping[str, Device]) -> str:
    """One sentence for a task in any state that is not final."""
    if task.state is not State.QUEUED:
        attempt = task.attempt
        where = f"on {attempt.device_id}, attempt {attempt.epoch}" if attempt else ""
        suspended = suspended_words(task, devices)
        return f"{suspended} ({where})" if suspended else task.reason or where
    if not rows:
        return "no device has ever joined"
    fitting = [row for row in rows if row["fits"]]
    if not fitting:
        return f"no device fits: none of {len(rows)} has what it asks for"
    wait = task.queue.wait
    if wait is not None:
        behind = "" if wait.task is task else f"behind {wait.task.task_id}, which "
        return f"{behind}waits for {wait.words()}"
    free = [row for row in fitting if not row["reasons"]]
    if free:
        return f"{free[0]['device_id']} has room: it is next"
    busy = sum(any(reason.startswith("busy") for reason in row["reasons"]) for row in fitting)
    if busy:
        return f"waits for room: {busy} of {len(fitting)} fitting devices {_are(busy)} busy"
    return _nobody([devices[row["device_id"]] for row in fitting])


def _nobody(fitting: list[Device]) -> str:
    """For a task that no device takes: those that are there and why not, one by name; how many are not there."""
    there = [device for device in fitting if device.presence is Presence.ONLINE]
    alone = len(fitting) == 1
    nobody = "the only device that fits" if alone else f"none of the {len(fitting)} devices that fit"
    if not there:
        return f"{nobody} is{' not' if alone else ''} there"
    parts = [_refuser(there[0]), *_others(there[1:])]
    if away := len(fitting) - len(there):
        parts.append(f"{away} {_are(away)} not there")
    return f"{nobody} takes{' no' if alone else ''} tasks now: " + "; ".join(parts)


def _refuser(device: Device) -> str:
    return f"{device.device_id} is {device.status}" + (f": {device.shown_reason}" if device.shown_reason else "")


def _others(devices: list[Device]) -> list[str]:
    """How many are in which state."""
    counts = Counter(device.status for device in devices).items()
    words = ", ".join(f"{count} {_are(count)} {status}" for status, count in counts)
    return [f"of the others {words}"] if words else []


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _hint(task: Task, rows: list[dict[str, Any]], changes: list[dict[str, Any]]) -> str:
    """The smallest changes that would let it run."""
    if task.state is State.HELD:
        return "release it, or cancel it"
    if task.state is not State.QUEUED:
        return ""
    if not rows:
        return "start a worker: twistd -n retire-worker --join HOST"
    if not changes:
        return ""
    first = next(row for row in rows if row["device_id"] == changes[0]["device_id"])
    return f"{in_words(changes)} (nearest is {first['device_id']}: {'; '.join(first['reasons'])})"
