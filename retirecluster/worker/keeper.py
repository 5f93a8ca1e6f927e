"""Keeps one runner alive: starts it, notices its end, and starts another; slower and slower while none works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from retirecluster.worker.runner_process import Report, RunnerProcess

LEAVES_WITHIN_S = 6.0
RESTART_CAP_S = 30.0
StartRunner = Callable[[RunnerProcess, int], None]


@define(eq=False)
class RunnerKeeper:
    """The runner of one isolation level.

    `on_report` hears what it says of attempts; `on_ready` that it takes jobs; `on_end` that it is gone, with
    everything that ran in it; `on_refused` that its fence cannot be put on, and why: it is not started again.
    """

    level: int
    reactor: IReactorTime
    start_runner: StartRunner
    on_report: Callable[[Report], None]
    on_ready: Callable[[], None]
    on_end: Callable[[RunnerKeeper], None]
    on_refused: Callable[[RunnerKeeper], None]
    log = Logger()
    ready: bool = field(default=False, init=False)
    refused: str = field(default="", init=False)
    process: RunnerProcess | None = field(default=None, init=False)
    _restart_in_s: float = field(default=0.0, init=False)
    _restart: IDelayedCall | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)
    _paused: bool = field(default=False, init=False)
    _ended: list[Deferred[None]] = field(factory=list, init=False)

    def start(self) -> None:
        """Start it, unless it runs or is about to."""
        if self.process is None and self._restart is None and not self._stopping and not self.refused:
            self._start()

    def _start(self) -> None:
        self._restart = None
        self.process = RunnerProcess(self._heard, self._gone)
        try:
            self.start_runner(self.process, self.level)
            if self._paused:
                self.process.pause()
        except OSError as error:  # no process or no memory for one just now
            self._gone(str(error))

    async def stop(self) -> None:
        """Kill what runs in it, end it, and return once it is gone."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self.process is None:
            return
        gone: Deferred[None] = Deferred()
        self._ended.append(gone)
        self.process.leave()
        deadline = self.reactor.callLater(LEAVES_WITHIN_S, self.process.kill)
        await gone
        if deadline.active():
            deadline.cancel()

    def order(self, order: dict[str, Any]) -> None:
        """Send one order. Only a runner that is ready takes any."""
        assert self.process is not None
        self.process.order(order)

    def worked(self) -> None:
        """A task has started in it: if it ends, another is started at once."""
        self._restart_in_s = 0.0

    def pause(self) -> None:
        """Take nothing from it for now: tasks that print wait in turn."""
        self._paused = True
        if self.process is not None:
            self.process.pause()

    def resume(self) -> None:
        if self._paused and self.process is not None:
            self.process.resume()
        self._paused = False

    def _heard(self, report: Report) -> None:
        event = report["e"]
        if event == "ready":
            self.ready = True
            self.log.info(
                "runner of isolation level {number}: {layers}", number=self.level, layers=report.get("layers")
            )
            self.on_ready()
        elif event == "refused":
            self.refused = report["why"]
        else:
            self.on_report(report)

    def _gone(self, why: str) -> None:
        self.ready = False
        self.process = None
        if self.refused:
            self.log.error("isolation level {number} is not reached: {why}", number=self.level, why=self.refused)
            self.on_refused(self)
        elif not self._stopping:
            self._plan_restart(why)
        self.on_end(self)
        for waiter in self._ended:
            waiter.callback(None)
        self._ended.clear()

    def _plan_restart(self, why: str) -> None:
        """At once the first time; slower and slower while no task ever starts in it."""
        wait_s = self._restart_in_s
        message = "the task runner of level {number} ended ({why}); a new one in {wait_s} s"
        self.log.error(message, number=self.level, why=why, wait_s=wait_s)
        self._restart = self.reactor.callLater(wait_s, self._start)
        self._restart_in_s = min(RESTART_CAP_S, max(0.5, 2 * wait_s))
