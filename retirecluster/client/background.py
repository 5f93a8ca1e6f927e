"""A reactor in a thread of its own, one for each process, for those who have none: scripts, notebooks, asyncio.

It is not the global reactor of Twisted, which stays free for whoever wants to run it. Everything the client does takes
its reactor as an argument, so several of them can stand side by side. docs/adr/0011-python-client.md says why.
"""

from __future__ import annotations

import atexit
import os
import select
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from threading import Lock, Thread, current_thread
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")
STOP_S = 5.0
"""How long the end of the interpreter waits for the connections to be closed."""


class BackgroundReactor:
    """A running reactor. `call` and `start` may be used from any thread but its own."""

    def __init__(self) -> None:
        self.reactor = _new_reactor()
        self._thread = Thread(target=self._run, name="retirecluster", daemon=True)
        self._thread.start()

    def start(self, make: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Have the reactor await what `make` gives. Cancelling the future cancels that."""
        future: Future[T] = Future()
        self.soon(lambda: self._begin(make, future))
        return future

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine that `make` gives comes to; Ctrl+C cancels it."""
        if current_thread() is self._thread:
            raise RuntimeError(
                "this would wait for itself: call it from a thread of yours, not from a progress callback"
            )
        future = self.start(make)
        try:
            return future.result()
        finally:
            future.cancel()
            del future  # an exception refers to this frame, and the future to the exception

    def soon(self, function: Callable[[], object]) -> None:
        """Call a function in the reactor's thread."""
        self.reactor.callFromThread(function)

    def stop(self) -> None:
        """End the thread. Nothing may be asked of it any more."""
        with suppress(RuntimeError):
            self.soon(self.reactor.stop)
        self._thread.join(STOP_S)

    def abandon(self) -> None:
        """In a process that was forked off: make sure that nothing done here reaches the parent's connections.

        The thread is not there, and what it had open is the parent's: closing a connection would end it for both.
        """
        nowhere = os.open(os.devnull, os.O_RDWR)
        for each in {*self.reactor.getReaders(), *self.reactor.getWriters()}:
            with suppress(OSError):
                os.dup2(nowhere, each.fileno())
        os.close(nowhere)

    def _run(self) -> None:
        self.reactor.run(installSignalHandlers=False)

    def _begin(self, make: Callable[[], Coroutine[Any, Any, T]], future: Future[T]) -> None:
        if future.cancelled():
            return
        work = Deferred.fromCoroutine(make())
        future.add_done_callback(lambda done: self.soon(work.cancel) if done.cancelled() else None)
        work.addBoth(_settle, future)


def _settle(outcome: Any, future: Future[Any]) -> None:
    with suppress(InvalidStateError):  # it was cancelled meanwhile
        if not isinstance(outcome, Failure):
            future.set_result(outcome)
        elif outcome.check(CancelledError):
            future.cancel()
        else:
            future.set_exception(outcome.value)


def _new_reactor() -> Any:
    """Poll, not epoll: with epoll, a process that forks would share the list of what is watched with its child."""
    if hasattr(select, "poll"):
        from twisted.internet.pollreactor import PollReactor as Reactor
    else:
        from twisted.internet.selectreactor import SelectReactor as Reactor
    reactor: Any = Reactor()
    # Threads that look up names must not hold up the end of the interpreter.
    reactor.getThreadPool().threadFactory = _daemon
    return reactor


def _daemon(**arguments: Any) -> Thread:
    return Thread(**arguments, daemon=True)


class _OfProcess:
    """Who has the one reactor of this process."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: BackgroundReactor | None = None
        self._of_parents: list[BackgroundReactor] = []
        self.before_end: list[Callable[[], object]] = []
        atexit.register(self._end)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._before_fork, after_in_parent=self._go_on, after_in_child=self._forked)

    def get(self) -> BackgroundReactor:
        with self._lock:
            if self._running is None:
                self._running = BackgroundReactor()
            return self._running

    def _end(self) -> None:
        for function in self.before_end:
            function()
        if self._running is not None:
            self._running.stop()

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _go_on(self) -> None:
        self._lock.release()

    def _forked(self) -> None:
        if self._running is not None:
            self._running.abandon()
            # Kept for good: being collected, its coroutines would run what they do at their end.
            self._of_parents.append(self._running)
            self._running = None
        self._lock.release()


_OF_PROCESS = _OfProcess()


def background() -> BackgroundReactor:
    """The reactor of this process, started by the first who asks. In a forked process it is another one."""
    return _OF_PROCESS.get()


def before_end(function: Callable[[], object]) -> None:
    """Have a function called at the end of the interpreter, while the reactor still runs."""
    _OF_PROCESS.before_end.append(function)
