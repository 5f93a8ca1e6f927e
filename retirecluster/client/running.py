"""The reactor under one command: starts it, turns signals into cancellation, gives back an exit code."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

Job = Callable[[Any], Coroutine[Any, Any, int]]
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")


def run(job: Job) -> int:
    """Run `job(reactor)` to its end and return its exit code, or raise what it raised.

    Ctrl+C and SIGTERM cancel the job, which may clean up at leisure; the exit code is then 128 + the signal's
    number. A second signal cancels the cleaning up as well.
    """
    from twisted.internet import reactor

    return _Run(reactor).run(job)


@define
class _Run:
    _reactor: Any
    _work: Deferred[int] | None = None
    _outcome: int | Failure = 0
    _signal: int = 0
    _previous: dict[int, Any] = field(factory=dict)

    def run(self, job: Job) -> int:
        self._reactor.callWhenRunning(self._start, job)
        self._reactor.run()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._signal:
            return 128 + self._signal
        if isinstance(self._outcome, Failure):
            self._outcome.raiseException()
        assert isinstance(self._outcome, int)
        return self._outcome

    def _start(self, job: Job) -> None:
        for name in _SIGNALS:
            number = getattr(signal, name, None)
            if number is not None:
                self._previous[number] = signal.signal(number, self._on_signal)
        self._work = Deferred.fromCoroutine(job(self._reactor))
        self._work.addBoth(self._finished)

    def _on_signal(self, number: int, _frame: object) -> None:
        self._signal = self._signal or number
        self._reactor.callFromThread(self._interrupt)

    def _interrupt(self) -> None:
        if self._work is not None:
            self._work.cancel()

    def _finished(self, outcome: int | Failure) -> None:
        self._outcome = outcome
        self._work = None
        self._reactor.stop()


async def at_most(limit: int, jobs: list[Callable[[], Awaitable[None]]]) -> None:
    """Run all jobs, at most `limit` at the same time; the first error ends the rest."""
    waiting = iter(jobs)

    async def lane() -> None:
        for job in waiting:
            await job()

    lanes = [Deferred.fromCoroutine(lane()) for _ in range(min(limit, len(jobs)))]
    try:
        for each in lanes:
            await each
    finally:
        for each in lanes:
            each.addErrback(lambda _: None)
            each.cancel()


__all__ = ["CancelledError", "at_most", "run"]
