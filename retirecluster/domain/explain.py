"""Why a task waits: for each device what stands in the way, and the nearest change that would help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from retirecluster.domain.devices import Presence
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler.picture import Device, Task
from retirecluster.domain.units import GIB


def obstacles(task: Task, device: Device) -> tuple[list[str], list[str]]:
    """(lasting reasons, passing reasons) why `device` does not run `task` now."""
    lasting = task.queue.misfit(device)
    passing = []
    if device.presence is not Presence.ONLINE:
        passing.append(f"{device.presence}" + (f": {device.reason}" if device.reason else ""))
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


def explain(task: Task, devices: Iterable[Device]) -> dict[str, Any]:
    """The answer of `tasks why` for a task that is not final: `reason`, `devices`, `hint`."""
    rows = []
    for device in devices:
        lasting, passing = obstacles(task, device)
        rows.append({"device_id": device.device_id, "fits": not lasting, "reasons": lasting + passing})
    return {
        "task_id": task.task_id,
        "status": task.state.value,
        "reason": waiting_reason(task, rows),
        "devices": rows if task.state is State.QUEUED else [],
        "hint": _hint(task, rows),
    }


def waiting_reason(task: Task, rows: list[dict[str, Any]]) -> str:
    """One sentence for a task in any state that is not final."""
    if task.state is not State.QUEUED:
        attempt = task.attempt
        where = f"on {attempt.device_id}, attempt {attempt.epoch}" if attempt else ""
        return task.reason or where
    if not rows:
        return "no device has ever joined"
    fitting = [row for row in rows if row["fits"]]
    if not fitting:
        return f"no device fits: none of {len(rows)} has what it asks for"
    free = [row for row in fitting if not row["reasons"]]
    if free:
        return f"{free[0]['device_id']} has room: it is next"
    busy = sum(any(reason.startswith("busy") for reason in row["reasons"]) for row in fitting)
    if busy:
        return f"waits for room: {busy} of {len(fitting)} fitting devices {'is' if busy == 1 else 'are'} busy"
    return f"none of the {len(fitting)} devices that fit is there"


def _hint(task: Task, rows: list[dict[str, Any]]) -> str:
    """The smallest change that would let it run."""
    if task.state is State.HELD:
        return "release it, or cancel it"
    if task.state is not State.QUEUED:
        return ""
    if not rows:
        return "start a worker: twistd -n retire-worker --join HOST"
    nearest = min(rows, key=lambda row: len(row["reasons"]))
    if not nearest["reasons"] or any(row["fits"] and _is_busy(row) for row in rows):
        return ""
    return f"nearest is {nearest['device_id']}: {'; '.join(nearest['reasons'])}"


def _is_busy(row: dict[str, Any]) -> bool:
    return any(reason.startswith("busy") for reason in row["reasons"])
