"""The event log as the other way to the same truth: folding it gives what the tables say.

Every change of these columns of a task, and of the presence of a device, is told by an event that carries the new
values: a log that begins with event 1 needs nothing else. One that was cut at the front by retention gives what
happened since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

EventRow = tuple[Any, ...]
"""(event_no, at, subject, kind, task_id, device_id, data as JSON text)"""
_UNREACHABLE = ("disconnected", "offline")


class LogBroken(ValueError):
    """The event log has a gap, or an event that nobody knows."""


@frozen
class TaskFacts:
    """The columns of a task that its events tell."""

    state: str
    epoch: int
    charged: int
    crashes: int
    reason: str


@define(eq=False)
class Replayed:
    """Where the log leads. `devices` holds `online`, `disconnected` or `offline` by device id."""

    tasks: dict[str, TaskFacts] = field(factory=dict)
    devices: dict[str, str] = field(factory=dict)
    last_event_no: int = 0


def replay(events: Iterable[EventRow]) -> Replayed:
    """Fold events, oldest first. Raises LogBroken for a gap in their numbers, and for what is not understood."""
    found = Replayed()
    for event_no, _, subject, kind, task_id, device_id, text in events:
        if found.last_event_no and event_no != found.last_event_no + 1:
            raise LogBroken(f"after event {found.last_event_no} comes {event_no}")
        found.last_event_no = event_no
        data = json.loads(text)
        if subject == "task":
            found.tasks[task_id] = _facts(data)
        elif subject == "device":
            _fold_device(found.devices, device_id, kind, data["status"])
        elif subject != "cluster":
            raise LogBroken(f"event {event_no} is about {subject!r}, which nobody knows")
    return found


def _facts(data: Mapping[str, Any]) -> TaskFacts:
    return TaskFacts(data["status"], data["epoch"], data["charged"], data["crashes"], data["reason"])


def _fold_device(devices: dict[str, str], device_id: str, kind: str, status: str) -> None:
    if kind == "removed":
        devices.pop(device_id, None)
    else:
        # draining, cordoned and suspect are what is done with a device that is there
        devices[device_id] = status if status in _UNREACHABLE else "online"
