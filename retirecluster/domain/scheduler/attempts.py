"""What becomes of attempts: granted, started, refused, ended with a result, lost with their device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from attrs import define, evolve

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.retry import CRASHES_TO_HOLD, backoff_s, refusal_pause_s
from retirecluster.domain.scheduler.fleet import Fleet
from retirecluster.domain.scheduler.ledger import Ledger
from retirecluster.domain.scheduler.picture import Attempt, Device, Moment, Refusal, Task
from retirecluster.domain.scheduler.placement import Queues
from retirecluster.domain.scheduler.timers import Timers
from retirecluster.domain.scheduler.turn import Assign, Result, Stop
from retirecluster.domain.units import format_duration

MOVES_TO_HOLD = 20
"""Attempts of a task that may end with a closed connection before a person has to look at it."""
SUCCESS = frozenset({"completed", "success"})


@define(eq=False)
class AttemptEvents:
    """What devices say about attempts, and what their silence means."""

    ledger: Ledger
    queues: Queues
    fleet: Fleet
    timers: Timers
    random: Random
    waited_s: Callable[[Task, Moment], float]
    """How long ago a task was submitted."""

    def grant(self, task: Task, device: Device, now: Moment) -> None:
        """Give a queued task to a device: the next epoch begins."""
        task.epoch += 1
        if task.device_id not in (None, device.device_id):
            self.ledger.moved += 1
        attempt = Attempt(
            task_seq=task.seq,
            epoch=task.epoch,
            device_id=device.device_id,
            session_no=device.session_no,
            granted_at=now.wall_s,
            granted_mono_s=now.mono_s,
            renewed_mono_s=now.mono_s,
        )
        self.fleet.take(device, task, attempt)
        self.ledger.step("grant", task, State.ASSIGNED, now)
        self.ledger.turn.attempts[task.seq, task.epoch] = attempt
        self.ledger.turn.effects.append(Assign(device.device_id, device.session_no, task, attempt))

    def current(self, device_id: str, task_id: str, epoch: int | None) -> tuple[Task, Attempt]:
        """The task and attempt that a device speaks of.

        Raises ClusterError: not_found (no such task, or it has ended), stale_attempt, not_holder. Without an
        epoch the attempt that the device holds is meant.
        """
        task = self.ledger.tasks.get(task_id)
        if task is None:
            raise ClusterError("not_found", f"task {task_id} is not known or has ended", field="data.task_id")
        attempt = task.attempt
        if attempt is None or (epoch is not None and attempt.epoch != epoch):
            which = "no attempt" if attempt is None else f"attempt {attempt.epoch}"
            raise ClusterError("stale_attempt", f"{task_id}: {which} is current, not {epoch}", field="data.epoch")
        if attempt.device_id != device_id:
            raise ClusterError(
                "not_holder",
                f"{task_id}: attempt {attempt.epoch} is not held by {device_id}",
                field="data.task_id",
            )
        return task, attempt

    def started(self, task: Task, attempt: Attempt, now: Moment) -> None:
        """The process of an attempt runs. Said twice, or of a task being cancelled, it changes nothing."""
        attempt.renewed_mono_s = now.mono_s
        device = self.fleet.devices.get(attempt.device_id)
        if device is not None and device.refusal is not None and device.refusal.over:
            device.refusal = None
        if attempt.started_at is None:
            self._observe_wait(task, now, 0.0)
            attempt.started_at, attempt.started_mono_s = now.wall_s, now.mono_s
            task.started_at = now.wall_s
            self.ledger.turn.attempts[task.seq, attempt.epoch] = attempt
        if task.state is State.ASSIGNED:
            self.ledger.step("started", task, State.RUNNING, now)

    def _observe_wait(self, task: Task, now: Moment, began_ago_s: float) -> None:
        if task.started_at is None:
            self.ledger.wait_s.observe(self.waited_s(task, now) - began_ago_s)

    def refused(self, task: Task, attempt: Attempt, now: Moment, reason: str) -> None:
        """The device could not run it, or hands it back: queued again and not charged."""
        state = task.state
        if state is State.ASSIGNED:
            device = self.fleet.devices[attempt.device_id]
            device.mean_s = None  # it has enough: queue nothing there for now
            if not attempt.taken_back:
                self._let_alone(device, now, reason)
        self._close(task, "refused" if state is State.ASSIGNED else "handed_back", now, reason=reason)
        if state is State.CANCELLING:
            self.ledger.step("cancel_confirmed", task, State.CANCELLED, now, reason)
        elif state is State.RUNNING and task.options.at_most_once:
            self.ledger.step("handed_back", task, State.LOST, now, f"stopped on {attempt.device_id}: {reason}")
        else:
            self._requeue("refused" if state is State.ASSIGNED else "handed_back", task, now, reason)

    def _let_alone(self, device: Device, now: Moment, reason: str) -> None:
        """Without this pause the best device would be given the same task again at once, for ever."""
        before = device.refusal
        if before is not None and not before.over:
            return  # of the same handful
        count = 1 if before is None else before.count + 1
        until_mono_s = now.mono_s + refusal_pause_s(count)
        device.refusal = Refusal(reason, count, until_mono_s)
        self.timers.add(until_mono_s, "refusal", device.device_id, count)
        self.queues.device_changed(device)

    def refusal_over(self, device: Device, now: Moment) -> None:
        """The pause after a refusal has passed; the next one is longer, unless something begins to run there first.

        The timer may be that of an earlier pause, which ended when the device registered again: it changes nothing.
        """
        if device.refusal is not None and now.mono_s >= device.refusal.until_mono_s:
            device.refusal = evolve(device.refusal, over=True)
            self.queues.device_changed(device)

    def take_back(self, task: Task, attempt: Attempt, reason: str) -> None:
        """Have the device stop it; once it says that the process is gone, the task is queued again, not charged."""
        attempt.taken_back = reason
        self.ledger.turn.attempts[task.seq, attempt.epoch] = attempt
        stop = Stop(attempt.device_id, attempt.session_no, task.task_id, attempt.epoch, reason)
        self.ledger.turn.effects.append(stop)

    def result(self, task: Task, attempt: Attempt, document: Mapping[str, Any], now: Moment) -> None:
        """The end of an attempt, by the word of the device that holds it."""
        if attempt.taken_back and document["status"] == "cancelled" and task.state is not State.CANCELLING:
            if document.get("execution_time"):  # it ran, whether that was heard of or not
                self.started(task, attempt, now)
            self.refused(task, attempt, now, attempt.taken_back)
            return
        ran_s = now.mono_s - (attempt.started_mono_s or attempt.granted_mono_s)
        self.ledger.run_s.observe(ran_s)
        if attempt.started_at is None:
            self._observe_wait(task, now, ran_s)
            attempt.started_at = attempt.granted_at
            task.started_at = attempt.granted_at
        device = self.fleet.devices[attempt.device_id]
        self.ledger.turn.results.append(Result(task.seq, attempt.epoch, document))
        if document["status"] in SUCCESS:
            device.completed += 1
            self._measure(device, task, document)
            self._close(task, "completed", now)
            self.ledger.step("result_ok", task, State.COMPLETED, now)
            return
        device.failed += 1
        cancelling = task.state is State.CANCELLING
        reason = failure_reason(document, task.options.timeout_s)
        self._close(task, document["status"], now, charged=not cancelling, reason=reason)
        if cancelling:
            self.ledger.step("cancel_confirmed", task, State.CANCELLED, now, task.reason)
        elif task.options.at_most_once or _hopeless(document):
            self.ledger.step("result_failed", task, State.FAILED, now, reason)
        else:
            self._retry_or_fail("result_failed", task, now, reason)

    def lease_over(self, task: Task, attempt: Attempt, now: Moment, reason: str) -> None:
        """Nobody can tell what becomes of this attempt: its device is gone or silent."""
        state = task.state
        if state is State.CANCELLING:
            self._close(task, "lease_over", now, reason=reason)
            self.ledger.step("cancel_confirmed", task, State.CANCELLED, now, f"{task.reason}; {reason}")
        elif task.options.at_most_once:
            self._close(task, "lost", now, charged=True, reason=reason)
            self.ledger.step("lease_over", task, State.LOST, now, reason)
        elif state is State.ASSIGNED:
            self._take_away(task, attempt)
            self._close(task, "never_started", now, reason=reason)
            self._requeue("lease_over", task, now, reason)
        else:
            self._take_away(task, attempt)
            self._close(task, "lease_over", now, charged=True, reason=reason)
            if task.tries > task.options.max_retries:
                self.ledger.step("lease_over", task, State.FAILED, now, _exhausted(task, reason))
            else:
                # At once and to the head: it has waited its turn before.
                self.ledger.retries += 1
                self._requeue("lease_over", task, now, reason)

    def moved_on(self, task: Task, attempt: Attempt, now: Moment, reason: str) -> None:
        """The worker is probably dead: the task goes to the head of the queue, not charged, as nobody knows.

        If it did die, it says so when it is back, and that counts as a crash. A task that moves on and on is
        held: it may be what ends the devices.
        """
        if task.state is State.CANCELLING:
            self.lease_over(task, attempt, now, reason)
            return
        self._take_away(task, attempt)
        self._close(task, "moved_on", now, reason=reason)
        task.moves += 1
        if task.moves > MOVES_TO_HOLD:
            self.ledger.step(
                "moved_on", task, State.HELD, now, f"held: it lost its device {task.moves} times ({reason})"
            )
        else:
            self._requeue("moved_on", task, now, reason)

    def _take_away(self, task: Task, attempt: Attempt) -> None:
        self.fleet.devices[attempt.device_id].taken[task.task_id, attempt.epoch] = None

    def never_started(self, task: Task, now: Moment, reason: str) -> None:
        """Its device came back and knows nothing of it."""
        if task.state is State.ASSIGNED:
            self._close(task, "never_started", now, reason=reason)
            self._requeue("never_started", task, now, reason)
        else:
            self.died(task, now, reason)

    def died(self, task: Task, now: Moment, reason: str) -> None:
        """Its process ended together with the worker that ran it."""
        attempt = task.attempt
        assert attempt is not None
        if task.state is State.CANCELLING:
            self._close(task, "died", now, reason=reason)
            self.ledger.step("cancel_confirmed", task, State.CANCELLED, now, reason)
            return
        self.started(task, attempt, now)
        self._close(task, "died", now, charged=True, reason=reason)
        task.crashes += 1
        if task.options.at_most_once:
            self.ledger.step("died", task, State.LOST, now, reason)
        elif task.crashes >= CRASHES_TO_HOLD:
            self.ledger.step("died", task, State.HELD, now, _held(task, reason))
        else:
            self._retry_or_fail("died", task, now, reason)

    def crash_reported(self, task: Task, now: Moment, device_id: str) -> None:
        """A device reports that an attempt which is over already took its worker down: evidence, not a step."""
        task.crashes += 1
        self.ledger.note("crash_reported", task, now)
        if task.crashes >= CRASHES_TO_HOLD and task.state in (State.QUEUED, State.RETRYING):
            if task.state is State.QUEUED:
                task.queue.leave(task)
            self.ledger.step("hold", task, State.HELD, now, _held(task, f"last on {device_id}"))

    def _close(self, task: Task, outcome: str, now: Moment, *, charged: bool = False, reason: str = "") -> None:
        attempt = self.ledger.close_attempt(task, outcome, now, charged=charged, reason=reason)
        task.progress = None
        self.fleet.free(attempt.device_id, task)

    def _requeue(self, event: str, task: Task, now: Moment, reason: str) -> None:
        self.ledger.step(event, task, State.QUEUED, now, reason)
        self.queues.push(task)

    def _retry_or_fail(self, event: str, task: Task, now: Moment, reason: str) -> None:
        if task.tries > task.options.max_retries:
            self.ledger.step(event, task, State.FAILED, now, _exhausted(task, reason))
            return
        pause_s = backoff_s(task.tries, self.random)
        task.not_before_at = now.wall_s + pause_s
        self.ledger.retries += 1
        used = f"{task.tries} of {task.options.max_retries + 1} attempts used"
        again = f"{reason}; again in {format_duration(pause_s)} ({used})"
        self.ledger.step(event, task, State.RETRYING, now, again)
        self.timers.add(now.mono_s + pause_s, "backoff", task.task_id, task.epoch)

    def _measure(self, device: Device, task: Task, document: Mapping[str, Any]) -> None:
        execution_s = document.get("execution_time")
        if execution_s is not None:
            self.queues.measured(device, task.task_type, float(execution_s))


def failure_reason(document: Mapping[str, Any], timeout_s: float) -> str:
    """One line that says why an attempt failed, from its result."""
    status, error = document["status"], document.get("error")
    kind, message = (error.get("kind"), error.get("message")) if isinstance(error, dict) else (None, error)
    if "timeout" in (status, kind):
        return f"timeout: ran longer than {format_duration(timeout_s)}"
    if message:
        lines = [line for line in str(message).splitlines() if line.strip()]
        return lines[-1].strip()[:300] if lines else status
    code = (document.get("result") or {}).get("exit_code")
    return f"exit code {code}" if code is not None else f"the device says: {status}"


def _hopeless(document: Mapping[str, Any]) -> bool:
    """The device says that another attempt would fail the same way."""
    error = document.get("error")
    return isinstance(error, dict) and error.get("retryable") is False


def _exhausted(task: Task, reason: str) -> str:
    return f"{reason} (all {task.tries} attempts used)" if task.tries > 1 else reason


def _held(task: Task, reason: str) -> str:
    return f"held: its worker died {task.crashes} times while it ran ({reason}); release or cancel it"
