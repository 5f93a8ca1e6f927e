"""The runner's end of warm processes: one for each lane, which is given jobs ahead of its need.

A lane is what the worker calls it: one slot, one submitter, one set of limits. A job that its process has not taken
from the socket has not begun: it is taken back when the process ends, when the task before it is stopped, or when
the worker asks for it.
"""

from __future__ import annotations

import signal
import time
from functools import partial

from retirecluster.worker.runner import limits, processes
from retirecluster.worker.runner.child import WARM
from retirecluster.worker.runner.lines import decode_line
from retirecluster.worker.runner.warm_process import WarmProcess
from retirecluster.worker.runner.warm_task import WarmTask

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from retirecluster.worker.runner.output import Say
    from retirecluster.worker.runner.processes import Ended
    from retirecluster.worker.runner.starting import Starter
    from retirecluster.worker.runner.watching import Watcher

    Watch = Callable[[int, Callable[[float], None]], None]
    Unwatch = Callable[[int], None]

REPORTS_A_TURN = 32
JOB_FILE = ".retire-job"


class WarmPool:
    """All warm processes of a runner.

    `watch` and `unwatch` are for descriptors, `highest_fd` is the runner's last one, `entered` hears of each process.
    """

    def __init__(
        self,
        starter: Starter,
        watcher: Watcher,
        say: Say,
        watch: Watch,
        unwatch: Unwatch,
        highest_fd: Callable[[], int],
        entered: Callable[[WarmProcess], None],
    ) -> None:
        self._starter = starter
        self._watcher = watcher
        self._say = say
        self._watch = watch
        self._unwatch = unwatch
        self._highest_fd = highest_fd
        self._entered = entered
        self._lanes: dict[str, WarmProcess] = {}
        self._all: dict[int, WarmProcess] = {}
        self._homes: dict[int, WarmProcess] = {}
        """By job number."""

    # Orders

    def run(self, job: dict[str, Any], line: bytes, now: float) -> None:
        """Give a job to the process of its lane, which is made if it is not there."""
        self._place(WarmTask(job, line, self._say), now)

    def _place(self, task: WarmTask, now: float) -> None:
        process = self._lanes.get(task.lane)
        if process is None:
            try:
                process = self._start(task, now)
            except OSError as error:
                return task.fail("fork", f"no process could be started: {error.strerror}")
        task.enter(process.started)
        process.tasks.append(task)
        self._homes[task.number] = process
        if len(process.tasks) == 1:
            task.begin(now)
        self._pump(process)

    def _start(self, task: WarmTask, now: float) -> WarmProcess:
        process = WarmProcess(task.lane, task.limits, now)
        job = {"n": 0, "type": WARM, "payload": {"tasks": task.tasks}, "env": {}, "timeout": 0.0}
        fixed = process.limits
        process.start(self._starter, job | ({"limits": fixed} if fixed else {}), self._highest_fd())
        self._lanes[task.lane] = self._all[process.pid] = process
        self._entered(process)
        if fixed:
            self._watcher.add(process, now)
        for fd, name in process.pipes.items():
            self._watch(fd, partial(self._read_pipe, process, fd, name))
        self._watch(process.fileno(), partial(self._read_reports, process))
        return process

    def _pump(self, process: WarmProcess) -> None:
        """Write what the process may take. What is too long for a message waits until it is the next one."""
        if process.stopping:
            return
        for task in process.tasks:
            if task.written:
                continue
            line = task.line
            if len(line) > limits.WARM_MESSAGE_BYTES:
                if task is not process.tasks[0]:
                    return
                line = process.leave_file(JOB_FILE, task)
            if not process.write(line):
                return
            task.written = True

    def cancel(self, order: dict[str, Any], now: float) -> bool:
        """Stop a job. False if it is not here."""
        process = self._homes.get(order["n"])
        if process is None:
            return False
        self._hold_back(process)
        task = next(each for each in process.tasks if each.number == order["n"])
        task.cancelled = True
        if task is process.tasks[0] or task.written:
            task.stop(now, order.get("grace", task.grace_s))
        else:
            process.tasks.remove(task)
            del self._homes[task.number]
            task.never_began()
        if process.tasks and not process.tasks[0].cancelled and not process.tasks[0].timed_out:
            process.stopping = False
            self._pump(process)
        return True

    def suspend(self, number: int, suspended: bool, now: float) -> None:
        """Stop the process of a job where it stands, or let it go on; jobs that have not begun wait behind it."""
        process = self._homes.get(number)
        if process is not None and process.tasks[0].number == number:
            head = process.tasks[0]
            head.suspend(now) if suspended else head.resume(now)

    def recall(self, lane: str) -> None:
        """Give back to the worker what has not begun in a lane."""
        process = self._lanes.get(lane)
        if process is None or process.stopping:
            return
        self._hold_back(process)
        process.stopping = False
        for task in [each for each in list(process.tasks)[1:] if not each.written]:
            process.tasks.remove(task)
            del self._homes[task.number]
            self._say({"e": "returned", "n": task.number})

    def _hold_back(self, process: WarmProcess) -> None:
        """Take back all jobs that the process has not taken, and give it no more for now."""
        process.stopping = True
        taken_back = process.take_back()
        for task in process.tasks:
            if task.number in taken_back:
                task.written = False

    # What processes say

    def _read_pipe(self, process: WarmProcess, fd: int, name: str, now: float) -> None:
        """There is something in a pipe: as long as it is not read, the process stays with the task that wrote it.

        So once the reports that came before are taken, the first task is that one.
        """
        self._read_reports(process, now)
        data = process.read_pipe(fd)
        if data is None:
            return
        if not data:
            self._unwatch(fd)
            process.close_pipe(fd)
        elif process.tasks and not process.tasks[0].take(name, data, now):
            self._unwatch(fd)
            process.resting.append(fd)

    def _read_reports(self, process: WarmProcess, now: float) -> None:
        for _ in range(REPORTS_A_TURN):
            data = process.receive() if process.tasks else None
            if data is None:
                return
            try:
                report = decode_line(data)
                if report["n"] != process.tasks[0].number:
                    raise ValueError("it is of another task")
            except (ValueError, RecursionError, LookupError, TypeError):
                # A task wrote it: its process is no longer what it was.
                processes.kill_group(process.pid, signal.SIGKILL)
                return
            self._ended(process, report, now)

    def _ended(self, process: WarmProcess, report: dict[str, Any], now: float) -> None:
        task = process.tasks.popleft()
        del self._homes[task.number]
        process.reported = True
        leaving = "leaving" in report
        if leaving:  # what it still says belongs to nobody else
            self._drain(process, task, now)
        task.end(report, now)
        if leaving or task.kill_at is not None or task.timed_out or task.cancelled:
            self._retire(process, now, kill=report.get("leaving") != "tasks")
        elif process.tasks:
            process.tasks[0].begin(now)
            self._pump(process)
        else:
            process.idle_since = now

    def _drain(self, process: WarmProcess, task: WarmTask, now: float) -> None:
        for fd, name in list(process.pipes.items()):
            read_bytes = 0
            while read_bytes < limits.DRAIN_BYTES and (data := process.read_pipe(fd)):
                read_bytes += len(data)
                task.take(name, data, now)

    # Time

    def next_wake(self) -> float | None:
        """When `tick` has something to do, or None."""
        wakes = [wake for each in self._all.values() if (wake := each.next_wake()) is not None]
        return min(wakes, default=None)

    def tick(self, now: float) -> None:
        """Do what is due: timeouts, telling of those that run for a while, leaving when idle."""
        for process in list(self._all.values()):
            if process.kill_at is not None and now >= process.kill_at:
                process.kill_at = None
                processes.kill_group(process.pid, signal.SIGKILL)
            if process.tasks:
                self._tick_head(process, process.tasks[0], now)
            elif process.idle_since is not None and now >= process.idle_since + limits.WARM_IDLE_S:
                self._retire(process, now, kill=False)

    def _tick_head(self, process: WarmProcess, head: WarmTask, now: float) -> None:
        if head.deadline is not None and now >= head.deadline and head.suspended_at is None:
            self._hold_back(process)
        head.tick(now)
        if process.resting and head.has_turn(now):
            for fd in process.resting:
                self._watch(fd, partial(self._read_pipe, process, fd, process.pipes[fd]))
            process.resting.clear()

    # Ends

    def _retire(self, process: WarmProcess, now: float, kill: bool) -> None:
        """It does no more jobs. Those that wait go to another one."""
        if self._lanes.get(process.lane) is process:
            del self._lanes[process.lane]
        self._hold_back(process)
        waiting = [each for each in process.tasks if not each.written]
        for task in waiting:
            process.tasks.remove(task)
        process.idle_since = None
        process.kill_at = now + (0.0 if kill else limits.WARM_LEAVES_S)
        self._unwatch(process.fileno())
        process.close_channel()
        if kill:
            processes.kill_group(process.pid, signal.SIGKILL)
        self._move(waiting, now)

    def _move(self, tasks: Iterable[WarmTask], now: float) -> None:
        for task in tasks:
            self._homes.pop(task.number, None)
            self._place(task, now)

    def ended(self, process: WarmProcess, ended: Ended) -> int | None:
        """A process was reaped. Its running task is over, the others go on elsewhere; the id of a cleaner."""
        now = process.ended_at = time.monotonic()
        if process.open:
            self._read_reports(process, now)
        if process.open:
            self._hold_back(process)
        if self._lanes.get(process.lane) is process:
            del self._lanes[process.lane]
        del self._all[process.pid]
        self._watcher.remove(process)
        self._close(process)
        tasks = list(process.tasks)
        process.tasks.clear()
        begun = [each for each in tasks[:1] if each.written or not process.reported]
        for task in begun:  # or it never got so far: then this one is told, so that there is an end to it
            del self._homes[task.number]
            task.die(ended, process)
        for fd in list(process.pipes):
            process.close_pipe(fd)
        self._move([each for each in tasks if each not in begun], now)
        return self._starter.end(process.started)

    def _close(self, process: WarmProcess) -> None:
        for fd in process.pipes:
            if fd not in process.resting:
                self._unwatch(fd)
        if process.open:
            self._unwatch(process.fileno())
            process.close_channel()

    def set_congested(self, congested: bool) -> None:
        """While the worker does not keep up, nothing is read: tasks wait in their own `write`."""
        for process in self._all.values():
            for fd in process.watched():
                if congested:
                    self._unwatch(fd)
                elif fd in process.pipes:
                    self._watch(fd, partial(self._read_pipe, process, fd, process.pipes[fd]))
                else:
                    self._watch(fd, partial(self._read_reports, process))
