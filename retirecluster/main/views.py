"""Documents of devices, tasks and the cluster, as every door shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from retirecluster.domain.devices import DEVICE_INFO, HARDWARE_SPECS
from retirecluster.domain.history import History
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Device, Moment, Scheduler
from retirecluster.domain.trust import figures
from retirecluster.domain.units import format_instant

INSTANTS = ("created_at", "started_at", "finished_at", "deadline_at", "granted_at", "at")


def device_document(device: Device, now: Moment) -> dict[str, Any]:
    """A device for listings. Percentages 0..100, sizes in bytes, durations in seconds; unknown is null."""
    profile, metrics = device.profile, device.metrics
    running = sum(task.state is not State.ASSIGNED for task in device.attempts.values())
    return {
        "device_id": device.device_id,
        "status": device.status,
        "reason": device.shown_reason,
        "role": profile.role,
        "platform": profile.platform or None,
        "architecture": profile.architecture or None,
        "hostname": profile.hostname or None,
        "tags": sorted(profile.tags),
        "slots": profile.slots,
        "running": running,
        "assigned": len(device.attempts),
        "completed": device.completed,
        "failed": device.failed,
        "cpu_usage": metrics.get("cpu_usage"),
        "memory_usage": metrics.get("memory_usage"),
        "disk_usage": metrics.get("disk_usage"),
        "temperature": metrics.get("temperature"),
        "battery": metrics.get("battery"),
        "uptime_s": metrics.get("uptime"),
        "last_seen_at": format_instant(device.last_seen_at),
        "last_seen_s": round(max(0.0, now.wall_s - device.last_seen_at), 3),
        "trust": round(device.trust, 3),
    }


def device_details(device: Device, now: Moment) -> dict[str, Any]:
    """A device with everything that is known of it."""
    profile = device.profile
    return device_document(device, now) | {
        "first_seen_at": format_instant(device.first_seen_at),
        "session_no": device.session_no,
        "draining": device.draining,
        "cordoned": device.cordoned,
        "cpu_cores": profile.cpu_cores or None,
        "memory_bytes": profile.memory_bytes or None,
        "storage_bytes": profile.storage_bytes or None,
        "python_version": profile.python_version or None,
        "isolation": profile.isolation,
        "speed": None if device.register.get("speed") is None else profile.speed,
        "capabilities": list(profile.capabilities),
        "task_types": None if profile.task_types is None else sorted(profile.task_types),
        "paused": _pause(device, now),
        "policy": list(device.policy),
        "policy_untold": list(device.untold),
        "quarantine": {"reason": device.quarantine} if device.quarantine else None,
        "trust_ledger": {name: round(figure, 3) for name, figure in figures(device.ledger).items()},
        "profile": profile_facts(device.register),
        "metrics": dict(device.metrics),
        "register": dict(device.register),
        "attempts": [
            {"task_id": task.task_id, "epoch": task.epoch, "status": task.state.value, "name": task.name}
            for task in device.attempts.values()
        ],
        "mean_run_s": {name: round(mean, 6) for name, (_, mean) in sorted(device.durations.items())},
    }


def _pause(device: Device, now: Moment) -> dict[str, Any] | None:
    """The device's own pause, as it says; null while it works."""
    pause = device.pause
    if pause is None:
        return None
    since_s = round(max(0.0, now.mono_s - pause.since_mono_s), 1)
    return {"reason": pause.reason, "running": pause.running, "since_s": since_s}


def profile_facts(register: Mapping[str, Any]) -> dict[str, Any]:
    """Every fact of a device with its source: `{"cpu_model": {"value": ..., "source": "/proc/cpuinfo"}, ...}`.

    What the device does not know has the source `unknown` and the value null.
    """
    sources = register.get("sources") or {}
    found = {}
    for part, record in (("device_info", DEVICE_INFO), ("hardware_specs", HARDWARE_SPECS)):
        said = register.get(part) or {}
        for name in record.by_name:
            value = said.get(name)
            found[name] = {"value": value, "source": "unknown" if value is None else sources.get(name, "the device")}
    return found


def history_document(device_id: str, window_s: float, history: History, now: Moment) -> dict[str, Any]:
    """The points of a device's history in a window, the oldest first; a figure that is not known is null."""
    found = history.read(device_id, window_s, now.mono_s)
    return {
        "device_id": device_id,
        "window_s": window_s,
        "step": found.level.name,
        "step_s": found.level.step_s,
        "points": [{"at": format_instant(now.wall_s - age_s), **values} for age_s, values in found.points],
    }


def instants(document: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a document of the store with its Unix seconds as ISO 8601."""
    shown: dict[str, Any] = {
        name: format_instant(value) if name in INSTANTS else value for name, value in document.items()
    }
    if "attempts" in shown:
        shown["attempts"] = [instants(each) for each in shown["attempts"]]
    return shown


def cluster_status(scheduler: Scheduler, now: Moment) -> dict[str, Any]:
    """Counts of devices, tasks and slots."""
    devices = scheduler.devices.values()
    counts = scheduler.ledger.counts
    online = [device for device in devices if device.status == "online"]
    cpu = [device.metrics["cpu_usage"] for device in online if device.metrics.get("cpu_usage") is not None]
    memory = [device.metrics["memory_usage"] for device in online if device.metrics.get("memory_usage") is not None]
    return {
        "placement": scheduler.queues.strategy.name,
        "devices": {"total": len(devices), **Counter(device.status for device in devices)},
        "tasks": {state.value: counts[state] for state in State},
        "slots": {
            "total": sum(device.profile.slots for device in online),
            "busy": sum(min(len(device.attempts), device.profile.slots) for device in online),
        },
        "cpu_usage": round(sum(cpu) / len(cpu), 1) if cpu else None,
        "memory_usage": round(sum(memory) / len(memory), 1) if memory else None,
    }
