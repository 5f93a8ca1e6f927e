"""The task executor: attempts that wait, attempts that run, and the runner that runs them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from retirecluster.worker import outcome
from retirecluster.worker.assignment import Assignment
from retirecluster.worker.journal import Key
from retirecluster.worker.leftovers import kill_group
from retirecluster.worker.runner_process import Report, RunnerProcess

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL for a cancelled task."""
RUNNER_LEAVES_WITHIN_S = 6.0
RESTART_CAP_S = 30.0
QUEUED, STARTING, RUNNING = "queued", "starting", "running"


class TaskListener(Protocol):
    """Who hears of the attempts."""

    def task_starting(self, assignment: Assignment) -> Awaitable[None] | None:
        """It is about to be run; where an awaitable comes back, that is waited for first."""

    def task_started(self, assignment: Assignment, pid: int) -> None: ...

    def task_output(self, assignment: Assignment, stream: str, seq: int, data: str) -> None: ...

    def task_progress(self, assignment: Assignment, percent: float | None, message: str) -> None: ...

    def task_finished(self, assignment: Assignment, data: dict[str, Any]) -> None:
        """`data` is that of the `task_result` message."""


@frozen
class ProgressReport:
    """How far an attempt is: state is queued, starting or running; percent is None where it did not say."""

    state: str
    percent: float | None = None
    message: str = ""


@define(eq=False)
class _Attempt:
    assignment: Assignment
    number: int
    state: str = QUEUED
    pid: int | None = None
    progress: ProgressReport = ProgressReport(QUEUED)
    cancel_reason: str = ""
    stopping: bool = False
    silent: bool = False


StartRunner = Callable[[RunnerProcess], None]


@define(eq=False)
class TaskExecutor:
    """Runs at most `slots` attempts at once; others wait in the order they came.

    `entry_points` maps task types of other packages to `module:attribute`. `listener` is set once, by whoever
    wires the worker, before the first task.
    """

    reactor: IReactorTime
    start_runner: StartRunner
    slots: int
    options: Mapping[str, Any] = field(factory=dict)
    entry_points: Mapping[str, str] = field(factory=dict)
    listener: TaskListener | None = None
    log = Logger()
    _attempts: dict[Key, _Attempt] = field(factory=dict, init=False)
    _queue: dict[Key, _Attempt] = field(factory=dict, init=False)
    _busy: dict[int, _Attempt] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)
    _runner: RunnerProcess | None = field(default=None, init=False)
    _ready: bool = field(default=False, init=False)
    _restart_in_s: float = field(default=0.0, init=False)
    _restart: IDelayedCall | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _paused: bool = field(default=False, init=False)
    _ended: list[Deferred[None]] = field(factory=list, init=False)
    _idle: list[Deferred[None]] = field(factory=list, init=False)

    # Life

    def start(self) -> None:
        """Start the runner."""
        self._restart = None
        self._ready = False
        self._runner = RunnerProcess(self._on_report, self._on_runner_end)
        self.start_runner(self._runner)

    async def stop(self) -> None:
        """Kill what runs, end the runner, and return once it is gone."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._runner is None:
            return
        gone: Deferred[None] = Deferred()
        self._ended.append(gone)
        self._runner.leave()
        deadline = self.reactor.callLater(RUNNER_LEAVES_WITHIN_S, self._runner.kill)
        await gone
        if deadline.active():
            deadline.cancel()

    @property
    def runner_pid(self) -> int | None:
        return self._runner.pid if self._runner is not None else None

    # The seed's interface

    def execute_task(self, assignment: Assignment) -> None:
        """Take an attempt: it starts as soon as a slot is free."""
        self._count += 1
        attempt = _Attempt(assignment, self._count)
        self._attempts[assignment.key] = self._queue[assignment.key] = attempt
        self._fill_slots()

    def cancel_task(self, task_id: str, epoch: int | None = None, reason: str = "", grace_s: float = GRACE_S) -> bool:
        """Stop an attempt (without `epoch`: any of the task) and report it cancelled. False if none is here."""
        attempt = self._find(task_id, epoch)
        if attempt is None:
            return False
        attempt.cancel_reason = attempt.cancel_reason or reason
        if attempt.state == QUEUED:
            self._forget(attempt)
            self._report(attempt, outcome.cancelled_data(attempt.assignment, reason))
            return True
        attempt.stopping = True
        if attempt.state == RUNNING and self._runner is not None:
            self._runner.order({"do": "cancel", "n": attempt.number, "grace": grace_s})
        return True

    def monitor_task_progress(self, task_id: str) -> ProgressReport | None:
        """How far a task is; None if it is not here."""
        attempt = self._find(task_id, None)
        return attempt.progress if attempt is not None else None

    def cleanup_task_resources(self, task_id: str, epoch: int | None = None) -> bool:
        """Kill an attempt at once and forget it: nothing is reported of it any more. False if none is here."""
        attempt = self._find(task_id, epoch)
        if attempt is None:
            return False
        attempt.silent = True
        return self.cancel_task(task_id, attempt.assignment.epoch, "forgotten", grace_s=0.0)

    # What is here

    def state_of(self, key: Key) -> str | None:
        attempt = self._attempts.get(key)
        return attempt.state if attempt is not None else None

    def assignments(self) -> list[Assignment]:
        """All attempts that are still to be reported, those that run first."""
        told = [each for each in self._attempts.values() if not each.silent]
        return [each.assignment for each in sorted(told, key=lambda each: each.state == QUEUED)]

    @property
    def active(self) -> int:
        """How many attempts hold a slot."""
        return len(self._busy)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def waiting_keys(self) -> set[Key]:
        """The attempts that wait for a slot."""
        return set(self._queue)

    def hand_back_waiting(self) -> list[Assignment]:
        """Give up all attempts that wait for a slot."""
        given = [each.assignment for each in self._queue.values()]
        for attempt in list(self._queue.values()):
            self._forget(attempt)
        return given

    async def idle(self) -> None:
        """Return once nothing holds a slot."""
        if self._busy:
            waiter: Deferred[None] = Deferred()
            self._idle.append(waiter)
            await waiter

    def pause_output(self) -> None:
        """Take nothing from the runner for now: tasks that print wait in turn."""
        self._paused = True
        if self._runner is not None:
            self._runner.pause()

    def resume_output(self) -> None:
        if self._paused and self._runner is not None:
            self._runner.resume()
        self._paused = False

    # Starting

    def _fill_slots(self) -> None:
        while self._queue and self._ready and len(self._busy) < self.slots:
            attempt = self._queue.pop(next(iter(self._queue)))
            attempt.state = STARTING
            attempt.progress = ProgressReport(STARTING)
            self._busy[attempt.number] = attempt
            self._begin(attempt)

    def _begin(self, attempt: _Attempt) -> None:
        try:
            waited = self.listener.task_starting(attempt.assignment) if self.listener is not None else None
        except OSError as error:
            return self._not_begun(attempt, error)
        if waited is None:
            return self._run(attempt)
        ensureDeferred(self._run_after(attempt, waited))

    async def _run_after(self, attempt: _Attempt, waited: Awaitable[None]) -> None:
        try:
            await waited
        except OSError as error:
            return self._not_begun(attempt, error)
        self._run(attempt)

    def _not_begun(self, attempt: _Attempt, error: OSError) -> None:
        self.log.error("task {task} is not started: {why}", task=attempt.assignment, why=str(error))
        message = f"the device's journal cannot be written: {error.strerror}"
        self._finish(attempt, outcome.failure_data(attempt.assignment, "journal", message, True))

    def _run(self, attempt: _Attempt) -> None:
        if attempt.stopping:
            return self._finish(attempt, outcome.cancelled_data(attempt.assignment, attempt.cancel_reason))
        if self._runner is None or not self._ready:
            return self._finish(attempt, _never_ran(attempt.assignment))
        attempt.state = RUNNING
        attempt.progress = ProgressReport(RUNNING)
        self._runner.order(self._job(attempt))

    def _job(self, attempt: _Attempt) -> dict[str, Any]:
        assignment = attempt.assignment
        environment = assignment.payload.get("environment") if assignment.task_type in outcome.PRINTS else None
        job = {
            "do": "run",
            "n": attempt.number,
            "type": assignment.task_type,
            "payload": assignment.payload,
            "timeout": assignment.timeout_s,
            "env": {
                **(environment or {}),
                "RETIRE_TASK_ID": assignment.task_id,
                "RETIRE_EPOCH": str(assignment.epoch),
            },
        }
        if self.options:
            job["options"] = dict(self.options)
        if assignment.task_type in self.entry_points:
            job["entry"] = self.entry_points[assignment.task_type]
        return job

    # What the runner says

    def _on_report(self, report: Report) -> None:
        event = report["e"]
        if event == "ready":
            self._ready = True
            return self._fill_slots()
        attempt = self._busy.get(report["n"])
        if attempt is None:
            return
        if event == "end":
            self._finish(attempt, outcome.result_data(attempt.assignment, report, attempt.cancel_reason))
        elif event == "started":
            attempt.pid = report["pid"]
            self._restart_in_s = 0.0
            if self.listener is not None:
                self.listener.task_started(attempt.assignment, report["pid"])
        elif self.listener is not None and not attempt.silent:
            self._tell(attempt, event, report)

    def _tell(self, attempt: _Attempt, event: str, report: Report) -> None:
        assert self.listener is not None
        if event == "output":
            self.listener.task_output(attempt.assignment, report["stream"], report["seq"], report["data"])
        elif event == "progress":
            attempt.progress = ProgressReport(RUNNING, report["percent"], report["message"])
            self.listener.task_progress(attempt.assignment, report["percent"], report["message"])

    def _finish(self, attempt: _Attempt, data: dict[str, Any]) -> None:
        self._forget(attempt)
        self._report(attempt, data)
        self._fill_slots()
        if not self._busy:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    def _report(self, attempt: _Attempt, data: dict[str, Any]) -> None:
        if self.listener is not None and not attempt.silent:
            self.listener.task_finished(attempt.assignment, data)

    def _forget(self, attempt: _Attempt) -> None:
        self._attempts.pop(attempt.assignment.key, None)
        self._queue.pop(attempt.assignment.key, None)
        self._busy.pop(attempt.number, None)

    def _find(self, task_id: str, epoch: int | None) -> _Attempt | None:
        if epoch is not None:
            return self._attempts.get((task_id, epoch))
        return next((each for key, each in self._attempts.items() if key[0] == task_id), None)

    # The runner's end

    def _on_runner_end(self, why: str) -> None:
        self._runner = None
        self._ready = False
        if not self._stopping:
            self._plan_restart(why)
        for attempt in [each for each in self._busy.values() if each.state == RUNNING]:
            if attempt.pid is not None:
                kill_group(attempt.pid)
            self._finish(attempt, _died(attempt.assignment))
        for waiter in self._ended:
            waiter.callback(None)
        self._ended.clear()

    def _plan_restart(self, why: str) -> None:
        """At once the first time; slower and slower while no task ever starts in it."""
        self.log.error("the task runner ended ({why}); a new one in {wait_s} s", why=why, wait_s=self._restart_in_s)
        self._restart = self.reactor.callLater(self._restart_in_s, self.start)
        self._restart_in_s = min(RESTART_CAP_S, max(0.5, 2 * self._restart_in_s))


def _died(assignment: Assignment) -> dict[str, Any]:
    return outcome.failure_data(assignment, "died", "the task runner on the device ended while the task ran", True)


def _never_ran(assignment: Assignment) -> dict[str, Any]:
    return outcome.failure_data(assignment, "runner", "the task runner on the device was not there to run it", True)
