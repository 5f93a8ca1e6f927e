"""The task executor: attempts that wait, attempts that run, and the runners that run them, one for each level."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from attrs import define, evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.limits import Limits, effective_limits
from retirecluster.worker import outcome
from retirecluster.worker.assignment import Assignment
from retirecluster.worker.checkpoints import Checkpoints
from retirecluster.worker.journal import Key
from retirecluster.worker.keeper import RunnerKeeper, StartRunner
from retirecluster.worker.lanes import STUCK_S, Lane, Lanes
from retirecluster.worker.leftovers import kill_group
from retirecluster.worker.runner_process import Report

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL for a task that is stopped, unless it says."""
DEFAULT_LEVEL = 1
NAMESPACES = 3
"""From this level on, process numbers in the runner's reports mean nothing outside it."""
WARM_TASKS = 1000
QUEUED, STARTING, RUNNING = "queued", "starting", "running"


class TaskListener(Protocol):
    """Who hears of the attempts."""

    def task_starting(self, assignment: Assignment) -> Awaitable[None] | None:
        """It is about to be run; where an awaitable comes back, that is waited for first."""

    def task_started(self, assignment: Assignment, pid: int | None) -> None:
        """`pid` is None where the process is in a namespace: it ends with its runner."""

    def task_not_begun(self, assignment: Assignment) -> None:
        """It was about to be run, and waits again: nothing of it has happened."""

    def task_output(self, assignment: Assignment, stream: str, seq: int, data: str) -> None: ...

    def task_progress(self, assignment: Assignment, percent: float | None, message: str) -> None: ...

    def task_finished(self, assignment: Assignment, data: dict[str, Any]) -> None:
        """`data` is that of the `task_result` message."""


class FolderKeeper(Protocol):
    """Who makes a task's folder before it runs, and takes from it what is to be kept."""

    def prepare(self, assignment: Assignment, level: int) -> Awaitable[str | None] | None:
        """The folder for this attempt, which its level's runner can reach; None: the runner's own will do.

        Raises TaskFailure, or OSError, where it cannot be made: the attempt is not run.
        """

    def abandon(self, assignment: Assignment) -> None:
        """It is to be stopped: if its folder is still being made, `prepare` may end with CancelledError."""

    def collect(self, assignment: Assignment, data: dict[str, Any]) -> Awaitable[dict[str, Any]] | None:
        """Its processes are gone: `data` of the `task_result` message, with what was kept; None: as it is.

        The folder may go now. It is called for every attempt whose `prepare` came to an end, also after a failure.
        """


class TaskFailure(Exception):
    """An attempt that cannot be run. `kind` and `message` are those of its result's error."""

    def __init__(self, kind: str, message: str, retryable: bool = True) -> None:
        super().__init__(message)
        self.kind = kind
        self.retryable = retryable


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
    level: int
    state: str = QUEUED
    pid: int | None = None
    progress: ProgressReport = ProgressReport(QUEUED)
    cancel_reason: str = ""
    stopping: bool = False
    silent: bool = False
    prepared: bool = False
    lane: Lane | None = None
    checkpoint: str | None = None


@define(eq=False)
class TaskExecutor:
    """Runs at most `slots` attempts at once; others wait in the order they came.

    `entry_points` maps task types of other packages to `module:attribute`. `level` is the isolation that every task
    has at least, `device_limits` what it may have at most, `task_limits` what the cluster gives those that do not
    ask. `kill_rest` ends what is left of a level whose runner is gone.
    `listener` and `folders` are set once, by whoever wires the worker, before the first task.
    """

    reactor: IReactorTime
    start_runner: StartRunner
    slots: int
    options: Mapping[str, Any] = field(factory=dict)
    entry_points: Mapping[str, str] = field(factory=dict)
    level: int = DEFAULT_LEVEL
    device_limits: Limits = field(factory=dict)
    task_limits: Limits = field(factory=dict)
    kill_rest: Callable[[int], None] = lambda level: None
    warm_tasks: int = WARM_TASKS
    """After so many tasks a warm process is replaced."""
    checkpoints: Checkpoints | None = None
    listener: TaskListener | None = None
    folders: FolderKeeper | None = None
    suspended: bool = field(default=False, init=False)
    """What runs is stopped where it stands, and goes on later."""
    log = Logger()
    _attempts: dict[Key, _Attempt] = field(factory=dict, init=False)
    _queue: dict[Key, _Attempt] = field(factory=dict, init=False)
    _busy: dict[int, _Attempt] = field(factory=dict, init=False)
    _count: int = field(default=0, init=False)
    _keepers: dict[int, RunnerKeeper] = field(factory=dict, init=False)
    _paused: bool = field(default=False, init=False)
    _idle: list[Deferred[None]] = field(factory=list, init=False)
    _lanes: Lanes = field(factory=Lanes, init=False)
    _calling_back: IDelayedCall | None = field(default=None, init=False)

    # Life

    def start(self) -> None:
        """Start the runner of the level that every task has; those of others follow when a task needs them."""
        self._keeper(self.level).start()

    async def stop(self) -> None:
        """Kill what runs, end the runners, and return once they are gone."""
        if self._calling_back is not None:
            self._calling_back.cancel()
            self._calling_back = None
        for keeper in self._keepers.values():
            await keeper.stop()

    def _keeper(self, level: int) -> RunnerKeeper:
        keeper = self._keepers.get(level)
        if keeper is None:
            keeper = self._keepers[level] = RunnerKeeper(
                level,
                self.reactor,
                self.start_runner,
                self._on_report,
                self._fill_slots,
                self._on_runner_end,
                self._on_refused,
            )
            if self._paused:
                keeper.pause()
        return keeper

    @property
    def runner_pid(self) -> int | None:
        """The process of the runner that every task's level has, if there is one."""
        return self.runner_pid_of(self.level)

    def runner_pid_of(self, level: int) -> int | None:
        keeper = self._keepers.get(level)
        return None if keeper is None or keeper.process is None else keeper.process.pid

    # The seed's interface

    def execute_task(self, assignment: Assignment) -> None:
        """Take an attempt: it starts as soon as a slot is free."""
        self._count += 1
        attempt = _Attempt(assignment, self._count, max(self.level, assignment.isolation))
        self._attempts[assignment.key] = self._queue[assignment.key] = attempt
        self._fill_slots()

    def cancel_task(
        self, task_id: str, epoch: int | None = None, reason: str = "", grace_s: float | None = None
    ) -> bool:
        """Stop an attempt (without `epoch`: any of the task) and report it cancelled. False if none is here.

        `grace_s` is between SIGTERM and SIGKILL; None: as the task says, or GRACE_S.
        """
        attempt = self._find(task_id, epoch)
        if attempt is None:
            return False
        attempt.cancel_reason = attempt.cancel_reason or reason
        if attempt.state == QUEUED:
            self._forget(attempt)
            self._report(attempt, outcome.cancelled_data(attempt.assignment, reason))
            return True
        attempt.stopping = True
        if attempt.state == STARTING and self.folders is not None:
            self.folders.abandon(attempt.assignment)
        keeper = self._keeper(attempt.level)
        if attempt.state == RUNNING and keeper.process is not None:
            grace_s = _grace_s(attempt.assignment) if grace_s is None else grace_s
            keeper.order({"do": "cancel", "n": attempt.number, "grace": grace_s})
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
        return len(self._busy) - self._lanes.ahead

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

    def suspend(self, suspended: bool) -> None:
        """Stop everything that runs where it stands (its whole tree, its timeouts too), or let it go on."""
        if suspended == self.suspended:
            return
        self.suspended = suspended
        for attempt in self._busy.values():
            keeper = self._keeper(attempt.level)
            if attempt.state == RUNNING and keeper.process is not None:
                keeper.order({"do": "pause" if suspended else "continue", "n": attempt.number})

    def pause_output(self) -> None:
        """Take nothing from the runners for now: tasks that print wait in turn."""
        self._paused = True
        for keeper in self._keepers.values():
            keeper.pause()

    def resume_output(self) -> None:
        self._paused = False
        for keeper in self._keepers.values():
            keeper.resume()

    # Starting

    def _fill_slots(self) -> None:
        """Begin what can begin. An attempt whose level has no runner yet keeps no other from a slot."""
        for attempt in list(self._queue.values()):
            if attempt.assignment.key not in self._queue:
                continue  # begun, or over, by what was done for one before it
            free = self.active < self.slots
            if not free and attempt.assignment.warm_for is None:
                return
            keeper = self._keeper(attempt.level)
            if keeper.ready:
                if not self._enter_lane(attempt, free):
                    return
                del self._queue[attempt.assignment.key]
                attempt.state = STARTING
                attempt.progress = ProgressReport(STARTING)
                self._busy[attempt.number] = attempt
                self._begin(attempt)
            elif keeper.refused:
                self._finish(attempt, _not_fenced(attempt, keeper.refused))
            else:
                keeper.start()

    def _enter_lane(self, attempt: _Attempt, free: bool) -> bool:
        """Find a warm attempt its lane; others need none. False if it has to wait for a slot."""
        assignment = attempt.assignment
        if assignment.warm_for is None:
            return True
        asked = effective_limits(assignment.limits, self.task_limits, self.device_limits)
        key = f"{attempt.level}/{assignment.warm_for}/" + ",".join(f"{name}={asked[name]:g}" for name in sorted(asked))
        # What must not run twice is never given ahead: that it has started is written down when it does.
        ahead = not assignment.at_most_once
        lane = self._lanes.take(key, attempt.number, self.reactor.seconds(), slot=free, ahead=ahead)
        attempt.lane = lane
        if self._lanes.ahead and self._calling_back is None:
            self._calling_back = self.reactor.callLater(STUCK_S, self._call_back)
        return lane is not None

    def _call_back(self) -> None:
        """Tasks that were given ahead, and now wait behind a long one, are taken back."""
        self._calling_back = None
        for lane in self._lanes.stuck(self.reactor.seconds()):
            attempt = self._busy[next(iter(lane.holds))]
            keeper = self._keeper(attempt.level)
            if keeper.process is not None:
                keeper.order({"do": "recall", "lane": lane.name})
        if self._lanes.ahead:
            self._calling_back = self.reactor.callLater(STUCK_S, self._call_back)

    def _called_back(self, attempt: _Attempt) -> None:
        """It has not begun, and goes back to the head of the queue."""
        if attempt.stopping:
            return self._finish(attempt, outcome.cancelled_data(attempt.assignment, attempt.cancel_reason))
        self._leave_lane(attempt, None)
        del self._busy[attempt.number]
        attempt.state = QUEUED
        attempt.progress = ProgressReport(QUEUED)
        self._queue[attempt.assignment.key] = attempt
        self._queue = dict(sorted(self._queue.items(), key=lambda item: item[1].number))
        if self.listener is not None:
            self.listener.task_not_begun(attempt.assignment)
        self._fill_slots()

    def _leave_lane(self, attempt: _Attempt, wall_s: float | None) -> None:
        if attempt.lane is not None:
            self._lanes.leave(attempt.lane, attempt.number, self.reactor.seconds(), wall_s)
            attempt.lane = None

    def _begin(self, attempt: _Attempt) -> None:
        try:
            folder = self.folders.prepare(attempt.assignment, attempt.level) if self.folders is not None else None
        except (OSError, TaskFailure) as error:
            return self._not_begun(attempt, error)
        if folder is None:
            return self._start(attempt)
        ensureDeferred(self._start_in(attempt, folder)).addErrback(self._broken, attempt)

    async def _start_in(self, attempt: _Attempt, folder: Awaitable[str | None]) -> None:
        """The folder comes first: a worker that dies before it is there has started nothing."""
        try:
            attempt.assignment = evolve(attempt.assignment, folder=await folder)
        except CancelledError:
            return self._not_begun(attempt, TaskFailure("files", "its folder was not wanted any more"))
        except (OSError, TaskFailure) as error:
            return self._not_begun(attempt, error)
        attempt.prepared = True
        self._start(attempt)

    def _start(self, attempt: _Attempt) -> None:
        if attempt.stopping:
            return self._finish(attempt, outcome.cancelled_data(attempt.assignment, attempt.cancel_reason))
        if attempt.assignment.checkpoint and self.checkpoints is not None:
            try:
                attempt.checkpoint = self.checkpoints.folder(attempt.assignment.task_id, attempt.level)
            except (OSError, ValueError) as error:
                return self._not_begun(attempt, TaskFailure("checkpoint", str(error), isinstance(error, OSError)))
        try:
            waited = self.listener.task_starting(attempt.assignment) if self.listener is not None else None
        except OSError as error:
            return self._not_begun(attempt, error)
        if waited is None:
            return self._run(attempt)
        ensureDeferred(self._run_after(attempt, waited)).addErrback(self._broken, attempt)

    async def _run_after(self, attempt: _Attempt, waited: Awaitable[None]) -> None:
        try:
            await waited
        except OSError as error:
            return self._not_begun(attempt, error)
        self._run(attempt)

    def _broken(self, failure: Failure, attempt: _Attempt) -> None:
        """Our own fault, and still an end for the attempt."""
        self.log.failure("task {task} is not started", failure, task=attempt.assignment)
        message = f"the worker made a mistake: {failure.getErrorMessage()}"
        self._finish(attempt, outcome.failure_data(attempt.assignment, "worker", message, True))

    def _not_begun(self, attempt: _Attempt, error: OSError | TaskFailure) -> None:
        if attempt.stopping:
            return self._finish(attempt, outcome.cancelled_data(attempt.assignment, attempt.cancel_reason))
        self.log.error("task {task} is not started: {why}", task=attempt.assignment, why=str(error))
        kind, message, retryable = "journal", "", True
        if isinstance(error, TaskFailure):
            kind, message, retryable = error.kind, str(error), error.retryable
        else:
            message = f"the device's journal cannot be written: {error.strerror}"
        self._finish(attempt, outcome.failure_data(attempt.assignment, kind, message, retryable))

    def _run(self, attempt: _Attempt) -> None:
        keeper = self._keeper(attempt.level)
        if attempt.stopping:
            return self._finish(attempt, outcome.cancelled_data(attempt.assignment, attempt.cancel_reason))
        if keeper.process is None or not keeper.ready:
            return self._finish(attempt, _never_ran(attempt.assignment))
        attempt.state = RUNNING
        attempt.progress = ProgressReport(RUNNING)
        keeper.order(self._job(attempt))
        if self.suspended:
            keeper.order({"do": "pause", "n": attempt.number})

    def _job(self, attempt: _Attempt) -> dict[str, Any]:
        assignment = attempt.assignment
        environment = assignment.payload.get("environment") if assignment.task_type in outcome.PRINTS else None
        job: dict[str, Any] = {
            "do": "run",
            "n": attempt.number,
            "type": assignment.task_type,
            "payload": assignment.payload,
            "timeout": assignment.timeout_s,
            "env": {
                **(environment or {}),
                "RETIRE_TASK_ID": assignment.task_id,
                "RETIRE_EPOCH": str(assignment.epoch),
                **assignment.file_variables,
            },
        }
        if limits := effective_limits(assignment.limits, self.task_limits, self.device_limits):
            job["limits"] = limits
        if attempt.checkpoint is not None:
            job["checkpoint"] = job["env"]["RETIRE_CHECKPOINT"] = attempt.checkpoint
        if attempt.lane is not None:
            job["lane"], job["tasks"] = attempt.lane.name, self.warm_tasks
        if assignment.grace_s is not None:
            job["grace"] = assignment.grace_s
        if assignment.folder is not None:
            job["folder"] = assignment.folder
        if self.options:
            job["options"] = dict(self.options)
        if assignment.task_type in self.entry_points:
            job["entry"] = self.entry_points[assignment.task_type]
        return job

    # What the runner says

    def _on_report(self, report: Report) -> None:
        event = report["e"]
        attempt = self._busy.get(report["n"])
        if attempt is None:
            return
        if event == "end":
            self._leave_lane(attempt, report.get("wall", 0.0))
            self._finish(attempt, outcome.result_data(attempt.assignment, report, attempt.cancel_reason))
        elif event == "returned":
            self._called_back(attempt)
        elif event == "started":
            attempt.pid = report["pid"] if attempt.level < NAMESPACES else None
            self._keeper(attempt.level).worked()
            if self.listener is not None:
                self.listener.task_started(attempt.assignment, attempt.pid)
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
        """It is over. What it leaves is taken first; until then it holds its slot."""
        if attempt.prepared and self.folders is not None:
            attempt.prepared = False
            taken = self.folders.collect(attempt.assignment, data)
            if taken is not None:
                ensureDeferred(self._finish_after(attempt, data, taken))
                return
        self._finish_now(attempt, data)

    async def _finish_after(self, attempt: _Attempt, data: dict[str, Any], taken: Awaitable[dict[str, Any]]) -> None:
        try:
            data = await taken
        except Exception as error:  # our own fault, and still an end for the attempt
            self.log.failure("the files of task {task} are lost", task=attempt.assignment)
            message = f"what it left could not be kept: {error}"
            data = outcome.failure_data(attempt.assignment, "files", message, True, data["execution_time"])
        self._finish_now(attempt, data)

    def _finish_now(self, attempt: _Attempt, data: dict[str, Any]) -> None:
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
        self._leave_lane(attempt, None)
        if attempt.checkpoint is not None and self.checkpoints is not None:
            attempt.checkpoint = None
            self.checkpoints.left(attempt.assignment.task_id)
        self._attempts.pop(attempt.assignment.key, None)
        self._queue.pop(attempt.assignment.key, None)
        self._busy.pop(attempt.number, None)

    def _find(self, task_id: str, epoch: int | None) -> _Attempt | None:
        if epoch is not None:
            return self._attempts.get((task_id, epoch))
        return next((each for key, each in self._attempts.items() if key[0] == task_id), None)

    # A runner's end

    def _on_runner_end(self, keeper: RunnerKeeper) -> None:
        for attempt in [each for each in self._busy.values() if each.state == RUNNING and each.level == keeper.level]:
            if attempt.pid is not None:
                kill_group(attempt.pid)
        self.kill_rest(keeper.level)
        lost = [each for each in self._busy.values() if each.state == RUNNING and each.level == keeper.level]
        ahead = [each for each in lost if each.lane is not None and not each.lane.is_first(each.number)]
        for attempt in lost:
            attempt.state = STARTING  # collected, not run: the next runner's end is not its own
        for attempt in ahead:
            self._called_back(attempt)
        for attempt in lost:
            if attempt not in ahead:
                self._finish(attempt, _died(attempt.assignment))

    def _on_refused(self, keeper: RunnerKeeper) -> None:
        self.reactor.callLater(0, self._fill_slots)


def _grace_s(assignment: Assignment) -> float:
    return GRACE_S if assignment.grace_s is None else assignment.grace_s


def _died(assignment: Assignment) -> dict[str, Any]:
    return outcome.failure_data(assignment, "died", "the task runner on the device ended while the task ran", True)


def _never_ran(assignment: Assignment) -> dict[str, Any]:
    return outcome.failure_data(assignment, "runner", "the task runner on the device was not there to run it", True)


def _not_fenced(attempt: _Attempt, why: str) -> dict[str, Any]:
    message = f"isolation level {attempt.level} is not reached on this device: {why}"
    return outcome.failure_data(attempt.assignment, "isolation", message, True)
