"""Events about tasks that come from people and from time: submit, cancel, hold, release, deadlines, backoff."""

from __future__ import annotations

from random import Random

from attrs import define

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import HELD_BY_DEVICE, WAITING, State
from retirecluster.domain.scheduler.fleet import Fleet
from retirecluster.domain.scheduler.ledger import Ledger
from retirecluster.domain.scheduler.picture import Attempt, Moment, Task
from retirecluster.domain.scheduler.placement import PRIORITY_BOOST_S, Queues
from retirecluster.domain.scheduler.timers import Timers
from retirecluster.domain.scheduler.turn import Stop
from retirecluster.domain.tasks import TaskSpec

BODY_KEPT_CHARS = 2048
"""A longer specification is read back from the store when the task is granted."""
BODIES_KEPT_TASKS = 50_000
"""With more tasks than this in memory, no specification is kept there."""
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letters that are taken for digits."""


def new_task_id(random: Random) -> str:
    """`task-` and 60 random bits in base 32."""
    bits = random.getrandbits(60)
    return "task-" + "".join(_ALPHABET[bits >> shift & 31] for shift in range(0, 60, 5))


@define(eq=False)
class TaskEvents:
    """What people and time do to tasks."""

    ledger: Ledger
    queues: Queues
    fleet: Fleet
    timers: Timers
    random: Random
    running_s_before: float = 0.0
    """The cluster's running time when this life of the main began, and the monotonic clock then."""
    began_mono_s: float = 0.0

    def running_s(self, now: Moment) -> float:
        """The cluster's running time in seconds: never goes back, and stands still while the main is down."""
        return self.running_s_before + max(0.0, now.mono_s - self.began_mono_s)

    def waited_s(self, task: Task, now: Moment) -> float:
        """How long ago a task was submitted, in seconds of the cluster's running time."""
        return self.running_s(now) - task.order_s - task.priority * PRIORITY_BOOST_S

    def submit(self, spec: TaskSpec, now: Moment, *, queued: bool = True) -> Task:
        """Take in a new task; it is queued at once, unless the caller grants it itself (`queued` False).

        One that is to be verified is blocked: its copies run (see `verifications`).
        """
        options, ledger = spec.options, self.ledger
        ledger.last_task_seq += 1
        keep = len(spec.body) <= BODY_KEPT_CHARS and len(ledger.tasks) < BODIES_KEPT_TASKS
        task = Task(
            seq=ledger.last_task_seq,
            task_id=new_task_id(self.random),
            task_type=spec.task_type,
            name=spec.name,
            priority=spec.priority,
            queue=self.queues.class_for(spec.requirements, spec.task_type, options.at_most_once),
            options=options,
            body=spec.body if keep else None,
            order_s=self.running_s(now) - spec.priority * PRIORITY_BOOST_S,
            created_at=now.wall_s,
            deadline_at=None if spec.deadline_s is None else now.wall_s + spec.deadline_s,
            inputs=tuple(each.sha256 for each in spec.inputs) if spec.inputs else (),
        )
        if options.verify > 1:
            task.state, task.reason = State.BLOCKED, f"runs as copies on {options.verify} devices"
        ledger.add(task, spec, now)
        if spec.deadline_s is not None:
            self.timers.add(now.mono_s + spec.deadline_s, "deadline", task.task_id, 0)
        if queued and task.state is State.QUEUED:
            self.queues.push(task)
        return task

    def cancel(self, task: Task, now: Moment, reason: str) -> None:
        """Cancel a task that is not final. A running one is `cancelling` until its device says it is gone."""
        if task.state in WAITING:
            self._leave_queue(task)
            self.ledger.step("cancel", task, State.CANCELLED, now, reason)
        elif task.state is not State.CANCELLING:
            assert task.attempt is not None
            self.ledger.step("cancel_running", task, State.CANCELLING, now, reason)
            self._stop(task, task.attempt, reason)

    def hold(self, task: Task, now: Moment, reason: str) -> None:
        """Hold a waiting task back until it is released. Raises ClusterError conflict for others."""
        if task.state is State.HELD:
            return
        if task.state in HELD_BY_DEVICE:
            raise ClusterError("conflict", f"{task.task_id} is {task.state}; only waiting tasks can be held: cancel it")
        if task.options.verify > 1:
            raise ClusterError("conflict", f"{task.task_id} runs as copies: hold those, or cancel it")
        self._leave_queue(task)
        self.ledger.step("hold", task, State.HELD, now, reason)

    def release(self, task: Task, now: Moment) -> None:
        """Let a held task go on, all that counted against it forgiven. Raises ClusterError conflict for others."""
        if task.state is not State.HELD:
            raise ClusterError("conflict", f"{task.task_id} is {task.state}, not held")
        task.crashes = task.moves = 0
        task.forgiven = task.charged
        self.ledger.step("release", task, State.QUEUED, now)
        self.queues.push(task)

    def backoff_over(self, task_id: str, epoch: int, now: Moment) -> None:
        """The pause before another attempt has passed."""
        task = self.ledger.tasks.get(task_id)
        if task is not None and task.state is State.RETRYING and task.epoch == epoch:
            task.not_before_at = None
            self.ledger.step("backoff_over", task, State.QUEUED, now)
            self.queues.push(task)

    def deadline(self, task_id: str, now: Moment) -> None:
        """The deadline of a task has passed: whatever it was doing, it is expired."""
        task = self.ledger.tasks.get(task_id)
        if task is None:
            return
        self._leave_queue(task)
        attempt = task.attempt
        if attempt is not None:
            self._stop(task, attempt, "deadline passed")
            self.ledger.close_attempt(task, "expired", now, charged=False, reason="deadline passed")
            self.fleet.free(attempt.device_id, task)
        self.ledger.step("deadline", task, State.EXPIRED, now, "its deadline passed")

    def _leave_queue(self, task: Task) -> None:
        if task.state is State.QUEUED:
            task.queue.leave(task)

    def _stop(self, task: Task, attempt: Attempt, reason: str) -> None:
        self.ledger.turn.effects.append(
            Stop(attempt.device_id, attempt.session_no, task.task_id, attempt.epoch, reason)
        )
