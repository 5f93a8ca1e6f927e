"""Documents of devices, tasks and the cluster, as every door shows them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Device, Moment, Scheduler
from retirecluster.domain.units import format_instant

INSTANTS = ("created_at", "started_at", "finished_at", "deadline_at", "granted_at", "at")


def device_document(device: Device, now: Moment) -> dict[str, Any]:
    """A device for listings. Percentages 0..100, sizes in bytes, durations in seconds; unknown is null."""
    profile, metrics = device.profile, device.metrics
    running = sum(task.state is not State.ASSIGNED for task in device.attempts.values())
    return {
        "device_id": device.device_id,
        "status": device.status,
        "reason": device.reason,
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
        "speed": profile.speed,
        "capabilities": list(profile.capabilities),
        "task_types": None if profile.task_types is None else sorted(profile.task_types),
        "metrics": dict(device.metrics),
        "register": dict(device.register),
        "attempts": [
            {"task_id": task.task_id, "epoch": task.epoch, "status": task.state.value, "name": task.name}
            for task in device.attempts.values()
        ],
        "mean_run_s": {name: round(mean, 6) for name, (_, mean) in sorted(device.durations.items())},
    }


def instants(document: dict[str, Any]) -> dict[str, Any]:
    """A document of the store with its Unix seconds as ISO 8601."""
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
        "devices": {"total": len(devices), **Counter(device.status for device in devices)},
        "tasks": {state.value: counts[state] for state in State},
        "slots": {
            "total": sum(device.profile.slots for device in online),
            "busy": sum(min(len(device.attempts), device.profile.slots) for device in online),
        },
        "cpu_usage": round(sum(cpu) / len(cpu), 1) if cpu else None,
        "memory_usage": round(sum(memory) / len(memory), 1) if memory else None,
    }
