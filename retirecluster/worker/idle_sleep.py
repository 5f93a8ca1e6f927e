"""Putting a device to sleep that has nothing to do, by a command of its owner's.

The main needs no say: to a device that is free and accepts tasks it gives every task that fits at once. So one that has
had nothing for a while is not waited for. It says that it goes to sleep before it does, and is shown so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import define, field
from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.utils import getProcessOutputAndValue
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.wake import ASLEEP
from retirecluster.worker.connection import Registrar

LOOK_EVERY_S = 5.0
SETTLE_S = 15.0
"""How long the device keeps away after the command has ended: most return before it sleeps. The clock of timers stands
still in sleep, so this is also how soon after waking it is back."""


class Line(Protocol):
    """This worker's way to the main."""

    def registered(self) -> bool: ...

    async def close(self) -> None:
        """Say goodbye, and stay away."""

    def open(self) -> None:
        """Connect again."""


@define(eq=False)
class IdleSleep:
    """Looks whether the device has been idle for `after_s` seconds.

    `activity` changes whenever a task starts or ends, `busy` says whether something is here, `owner_away_s` since when
    nobody has used the device (None: not known). `run` runs the command; it gives why it failed, empty if it did not.
    """

    clock: IReactorTime
    command: Sequence[str]
    after_s: float
    busy: Callable[[], bool]
    activity: Callable[[], str]
    owner_away_s: Callable[[], Awaitable[float | None]]
    line: Line
    run: Callable[[Sequence[str]], Awaitable[str]]
    settle_s: float = SETTLE_S
    log = Logger()
    _idle_since: float = field(default=0.0, init=False)
    _seen: str = field(default="", init=False)
    _loop: LoopingCall | None = field(default=None, init=False)
    _looking: Deferred[None] | None = field(default=None, init=False)

    def start(self) -> None:
        """From now on."""
        self._idle_since = self.clock.seconds()
        self._loop = LoopingCall(self._look_safely)
        self._loop.clock = self.clock
        self._loop.start(min(LOOK_EVERY_S, self.after_s / 4), now=False)

    def stop(self) -> None:
        """No more; one that is keeping away stays away."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        if self._looking is not None:
            self._looking.cancel()

    def _look_safely(self) -> Deferred[None]:
        looking = self._looking = ensureDeferred(self.look())
        # A LoopingCall that fails once never runs again.
        return looking.addErrback(self._failed).addBoth(self._looked)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self.log.failure("looking whether to sleep failed; the next look follows", failure)

    def _looked(self, _: object) -> None:
        self._looking = None

    async def look(self) -> None:
        """Sleep if it is time to."""
        now = self.clock.seconds()
        if self.busy() or self.activity() != self._seen or not self.line.registered():
            self._seen, self._idle_since = self.activity(), now
        elif now - self._idle_since >= self.after_s and await self._owner_is_away() and not self.busy():
            await self._sleep()
            self._idle_since = self.clock.seconds()

    async def _owner_is_away(self) -> bool:
        away_s = await self.owner_away_s()
        return away_s is None or away_s >= self.after_s

    async def _sleep(self) -> None:
        self.log.info("idle for {after} s: going to sleep", after=self.after_s)
        await self.line.close()
        try:
            why = await self.run(self.command)
            if why:
                self.log.error("idle_sleep_command failed: {why}", why=why)
            else:
                await deferLater(self.clock, self.settle_s)
        except CancelledError:
            raise  # the worker stops
        except BaseException:
            self.line.open()
            raise
        self.line.open()


@define(eq=False)
class WorkerLine:
    """The connection of a worker, as one that sleeps gives it up and takes it up again."""

    registrar: Registrar
    client: ClientService

    def registered(self) -> bool:
        connection = self.registrar.connection
        return connection is not None and connection.registered

    async def close(self) -> None:
        """Say goodbye with the reason `asleep`; returns when the connection is closed."""
        if self.registrar.connection is not None:
            self.registrar.connection.leave(ASLEEP, returning=False)
        await self.client.stopService()

    def open(self) -> None:
        if not self.client.running:
            self.client.startService()


async def run_command(reactor: Any, command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Run a program to its end; why it failed, empty if it did not."""
    try:
        running = getProcessOutputAndValue(command[0], command[1:], dict(environ), reactor=reactor)
    except OSError as error:  # some systems say it here, others by the exit status
        return f"{command[0]}: {error.strerror}"
    out, err, status = await running.addErrback(_by_signal)
    if status == 0:
        return ""
    said = (err or out).decode("utf-8", "replace").strip().splitlines()
    return f"exit status {status}" + (f": {said[-1][:500]}" if said else "")


def _by_signal(failure: Failure) -> tuple[bytes, bytes, str]:
    """What was ended by a signal comes as an error whose value is (output, error, number of the signal)."""
    if not isinstance(failure.value, tuple):
        failure.raiseException()  # nobody waits any more: the worker stops
    out, err, number = failure.value
    return out, err, f"none, signal {number}"
