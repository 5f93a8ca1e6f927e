"""The one writer of task states. Every step is checked against the lifecycle table, counted, and logged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from retirecluster.domain.audit import Actor, AuditEntry, Refusals
from retirecluster.domain.distribution import WAITS_S, Distribution
from retirecluster.domain.lifecycle import FINAL, State, check_step
from retirecluster.domain.scheduler.picture import Attempt, Device, Moment, Task
from retirecluster.domain.scheduler.turn import Event, Turn
from retirecluster.domain.tasks import PRIORITIES, TaskSpec


@define(eq=False)
class Ledger:
    """Tasks that are not final by id, counts by state over all tasks that are kept, and the current turn."""

    tasks: dict[str, Task] = field(factory=dict)
    counts: Counter[State] = field(factory=Counter)
    turn: Turn = field(factory=Turn)
    last_event_no: int = 0
    last_task_seq: int = 0
    retries: int = 0
    refusals: Refusals = field(factory=Refusals)
    forgotten: int = 0
    """Tasks that ended and were removed by retention, since the main started."""
    waiting: Counter[int] = field(factory=Counter)
    """Queued tasks by priority."""
    finished: Counter[State] = field(factory=Counter)
    """Tasks that ended since the main started, by how; `outcomes` are those of attempts."""
    outcomes: Counter[str] = field(factory=Counter)
    moved: int = 0
    """Grants to another device than the one before, since the main started."""
    wait_s: Distribution = field(factory=lambda: Distribution(WAITS_S))
    """From the submission of a task until it began for the first time."""
    run_s: Distribution = field(factory=lambda: Distribution(WAITS_S))
    """From the start of an attempt until its result came."""

    def add(self, task: Task, spec: TaskSpec, now: Moment) -> None:
        """Take in a task that was just submitted."""
        self.tasks[task.task_id] = task
        self.counts[task.state] += 1
        if task.state is State.QUEUED:
            self.waiting[task.priority] += 1
        self.turn.tasks[task.seq] = task
        self.turn.new_tasks.append((task, spec))
        data = {"name": task.name, "task_type": task.task_type, "priority": PRIORITIES[task.priority]}
        self._log_task("submitted", task, now, data)

    def restored(self, task: Task) -> None:
        """Take in a task from the store, where it is counted already."""
        self.tasks[task.task_id] = task
        if task.state is State.QUEUED:
            self.waiting[task.priority] += 1

    def oldest_waiting(self) -> Task | None:
        """The queued task that was submitted first: tasks stand in that order, and few of the first are not queued.

        Only of tasks from before a restart another one may be older: those that were waiting for their next attempt.
        """
        if not self.counts[State.QUEUED]:
            return None
        return next((task for task in self.tasks.values() if task.state is State.QUEUED), None)

    def step(self, event: str, task: Task, target: State, now: Moment, reason: str = "") -> None:
        """Take `task` to `target`, if the table allows it, and log it."""
        check_step(event, task.state, target)
        if task.state is State.QUEUED:
            self.waiting[task.priority] -= 1
        if target is State.QUEUED:
            self.waiting[task.priority] += 1
        self.counts[task.state] -= 1
        self.counts[target] += 1
        task.state = target
        task.reason = reason
        self.turn.tasks[task.seq] = task
        if target in FINAL:
            self.finished[target] += 1
            task.finished_at = now.wall_s
            task.progress = None
            del self.tasks[task.task_id]
            self.turn.ended.append(task)
        self._log_task(event, task, now, {})

    def note(self, kind: str, task: Task, now: Moment) -> None:
        """Log, and have written, something about a task that is not a step."""
        self.turn.tasks[task.seq] = task
        self._log_task(kind, task, now, {})

    def forget(self, counts: Mapping[State, int]) -> None:
        """Tasks that ended long ago, by state, are kept no longer."""
        for state, count in counts.items():
            self.counts[state] -= count
            self.forgotten += count

    def close_attempt(self, task: Task, outcome: str, now: Moment, *, charged: bool, reason: str = "") -> Attempt:
        """End the current attempt of `task`; the device's own books are the fleet's business."""
        attempt = task.attempt
        assert attempt is not None
        attempt.finished_at = now.wall_s
        attempt.outcome = outcome
        self.outcomes[outcome] += 1
        attempt.reason = reason
        attempt.charged = charged
        if charged:
            task.charged += 1
        self.turn.attempts[task.seq, attempt.epoch] = attempt
        task.attempt = None
        return attempt

    def log_device(self, kind: str, device: Device, now: Moment, **data: Any) -> None:
        """Log something about a device, and have its row written."""
        self.turn.devices[device.device_id] = device
        data = {"status": device.status, "role": device.profile.role, "reason": device.shown_reason, **data}
        self._log(now, "device", kind, None, device.device_id, data)

    def log_cluster(self, kind: str, now: Moment, **data: Any) -> None:
        """Log something about the cluster as a whole."""
        self._log(now, "cluster", kind, None, None, data)

    def log_removed(self, device: Device, now: Moment) -> None:
        """Log that a device was taken out of the registry."""
        self.turn.devices.pop(device.device_id, None)
        self.turn.removed_devices.append(device.device_id)
        self._log(now, "device", "removed", None, device.device_id, {"status": "removed"})

    def audit(self, now: Moment, actor: Actor, action: str, subject: str, **detail: Any) -> None:
        """Write down what a person did, with the rest of this turn."""
        self.turn.audited.append(AuditEntry.by(actor, now.wall_s, action, subject, detail))

    def audit_refusal(self, now: Moment, actor: str, action: str, subject: str, **detail: Any) -> None:
        """Write down what was refused to a device or a stranger, unless they had enough of it lately."""
        self.turn.audited += self.refusals.admit(AuditEntry(now.wall_s, actor, action, subject, detail), now)

    def take_turn(self) -> Turn:
        """The turn so far; a new one begins."""
        turn, self.turn = self.turn, Turn()
        return turn

    def _log_task(self, kind: str, task: Task, now: Moment, data: dict[str, Any]) -> None:
        data |= {
            "status": task.state.value,
            "epoch": task.epoch,
            "charged": task.charged,
            "crashes": task.crashes,
            "reason": task.reason,
        }
        self._log(now, "task", kind, task.task_id, task.device_id, data)

    def _log(
        self,
        now: Moment,
        subject: str,
        kind: str,
        task_id: str | None,
        device_id: str | None,
        data: dict[str, Any],
    ) -> None:
        self.last_event_no += 1
        self.turn.events.append(Event(self.last_event_no, now.wall_s, subject, kind, task_id, device_id, data))
