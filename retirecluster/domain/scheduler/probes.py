"""Devices that are suspect (their worker died on several different tasks in a row) or in quarantine (see `standing`).

They get no tasks until a probe, a small task of the cluster's own, has passed there. Probes that fail are repeated
with growing pauses; `release` or `uncordon` by a person ends the distrust at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define

from retirecluster.domain.devices import Presence
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler.attempts import AttemptEvents
from retirecluster.domain.scheduler.fleet import Fleet
from retirecluster.domain.scheduler.picture import Device, Moment, Task
from retirecluster.domain.scheduler.standing import Standing
from retirecluster.domain.scheduler.tasks import TaskEvents
from retirecluster.domain.scheduler.timers import Timers
from retirecluster.domain.tasks import TaskSpec, spec_from_document
from retirecluster.domain.trust import released

PROBE = "probe"
FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 600.0
KEPT_AFTER_PROBE = 0.5
"""Of what is held against a device, what is left at most once a probe has passed: the next mistake weighs the more."""


def probe_spec(device_id: str) -> TaskSpec:
    """The task that a distrusted device has to pass."""
    return spec_from_document(
        {
            "task_type": "echo",
            "name": PROBE,
            "payload": {"message": PROBE},
            "requirements": {"device": device_id},
            "labels": {"retire.probe": device_id},
            "max_retries": 0,
            "timeout": 60,
            "deadline_s": 600,
        }
    )


@define(eq=False)
class Probes:
    """Suspicion, and what ends it."""

    tasks: TaskEvents
    attempts: AttemptEvents
    fleet: Fleet
    timers: Timers
    standing: Standing

    def worker_died(self, device: Device, task_ids: Iterable[str], now: Moment) -> None:
        """The worker came back and says that these tasks ran when it died: one death, however many they are."""
        fresh = next((task_id for task_id in task_ids if task_id not in device.deaths), None)
        if fresh is None or device.suspect:
            return
        device.deaths.append(fresh)
        if device.suspect:
            device.reason = f"its worker died on {len(device.deaths)} tasks in a row: {', '.join(device.deaths)}"
            self.fleet.ledger.log_device("suspect", device, now)
            self.fleet.queues.device_changed(device)

    def check(self, device: Device, now: Moment) -> None:
        """Send a probe to a distrusted device that is there and has none, if it is time."""
        if not device.distrusted or device.presence is not Presence.ONLINE or device.pausing:
            return
        pause_s = self.standing.probe_in_s(device, now)
        if pause_s > 0:
            self.timers.add(now.mono_s + pause_s, "probe", device.device_id, 0)
            return
        task = self.fleet.ledger.tasks.get(device.probe_task_id or "")
        if task is None:
            task = self.tasks.submit(probe_spec(device.device_id), now, queued=False)
            device.probe_task_id = task.task_id
        elif task.state is State.QUEUED:
            task.queue.leave(task)
        else:
            return
        self.attempts.grant(task, device, now)

    def restored(self, task: Task) -> None:
        """A task came back from the store: if it is the probe of a distrusted device, remember that."""
        device = self.fleet.devices.get(task.queue.demand.device)
        if device is not None and device.distrusted and task.name == PROBE:
            device.probe_task_id = task.task_id

    def ended(self, task: Task, result: Mapping[str, Any] | None, now: Moment) -> None:
        """A task has ended: if it was a probe, believe its device again, or try once more later.

        `result` is the data of its `task_result`: a device in quarantine has to give the right answer.
        """
        device = self.fleet.devices.get(task.device_id or "")
        if device is None:
            return
        if device.probe_task_id == task.task_id:
            device.probe_task_id = None
            if task.state is State.COMPLETED and (not device.quarantine or _right(result)):
                self.forgive(device, now, KEPT_AFTER_PROBE)
            else:
                pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**device.probes_failed)
                device.probes_failed += 1
                self.timers.add(now.mono_s + pause_s, "probe", device.device_id, 0)
        elif task.state is State.COMPLETED and device.deaths and not device.suspect:
            device.deaths.clear()

    def forgive(self, device: Device, now: Moment, kept: float = 0.0) -> None:
        """End the distrust; of what led to a quarantine, a part is `kept`."""
        if device.quarantine:
            self.standing.end_quarantine(device, released(device.ledger, kept), now)
        was_suspect = device.suspect
        device.deaths.clear()
        device.probes_failed = 0
        if was_suspect:
            device.reason = ""
            self.fleet.ledger.log_device("trusted", device, now)
            self.fleet.queues.device_changed(device)


def _right(result: Mapping[str, Any] | None) -> bool:
    """Whether a probe's result is what the task gives."""
    return ((result or {}).get("result") or {}).get("output") == PROBE
