"""What both daemons have to do with whoever started them: what systemd is told, and being asked twice to stop.

The protocol is that of sd_notify(3): datagrams of NAME=VALUE lines to the socket that NOTIFY_SOCKET names. Without one
(started by hand, another system, a phone) nothing is sent.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

from attrs import define, field, frozen
from twisted.internet.error import ReactorNotRunning
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

log = Logger()
TELL_S = 20.0
"""How often the line of status is told where no watchdog asks for more."""


@frozen
class Notifier:
    """Tells the service manager about this process. `address` is empty where there is none.

    `watchdog_s`: within that time it wants to hear that the daemon works, else it starts it anew; None: it does not.
    """

    address: str = ""
    watchdog_s: float | None = None

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str], pid: int) -> Notifier:
        """The one that the environment names. Its variables are taken out: they are not for the processes of tasks."""
        address = environ.pop("NOTIFY_SOCKET", "")
        usec, meant = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        watches = usec.isdecimal() and int(usec) > 0 and meant in ("", str(pid))
        return cls(address if address[:1] in ("/", "@") else "", int(usec) / 1e6 if watches else None)

    def tell(self, **variables: str) -> None:
        """Send variables, as READY="1". What cannot be sent is let go: this is a courtesy, and stops nothing."""
        if not self.address:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        lines = (f"{key}={value}".replace("\n", " ") for key, value in variables.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto("\n".join(lines).encode("utf-8", "replace"), name)


@define(eq=False)
class Reporter:
    """Tells the service manager that the daemon is ready, how it does, that it lives, and that it ends.

    `status` gives a line for people. `hangs` gives what only a new start can mend, empty if nothing: while there is
    something, the watchdog hears nothing, and starts the daemon anew.
    """

    notifier: Notifier
    clock: IReactorTime
    status: Callable[[], str]
    hangs: Callable[[], str] = field(default=lambda: "")
    _first: IDelayedCall | None = field(default=None, init=False)
    _loop: LoopingCall | None = field(default=None, init=False)

    def start(self) -> None:
        """Everything is wired. Ready it is once the reactor turns."""
        if self.notifier.address:
            self._first = self.clock.callLater(0, self._begin)

    def _begin(self) -> None:
        self._first = None
        self.notifier.tell(READY="1")
        self._loop = LoopingCall(self._supervised_tell)
        self._loop.clock = self.clock
        watchdog_s = self.notifier.watchdog_s
        # Three times within the time that is allowed: one that comes late does no harm.
        self._loop.start(TELL_S if watchdog_s is None else min(TELL_S, watchdog_s / 3))

    def _supervised_tell(self) -> None:
        # A LoopingCall that raises stops for good.
        try:
            self._tell()
        except Exception:
            log.failure("the service manager could not be told how this does")

    def _tell(self) -> None:
        problem = self.hangs()
        if problem:
            log.error("only a new start mends this: {problem}", problem=problem)
        beat = {"WATCHDOG": "1"} if self.notifier.watchdog_s is not None and not problem else {}
        self.notifier.tell(STATUS=problem or self.status(), **beat)

    def stopping(self) -> None:
        """The daemon was told to end."""
        if self._first is not None and self._first.active():
            self._first.cancel()
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self.notifier.tell(STOPPING="1", STATUS="stopping")


def stop_once(reactor: Any) -> None:
    """Have this reactor stop at the first SIGTERM or Ctrl+C, and go on stopping at those that follow.

    Twisted's own raises for a reactor that stops already, which ends in the log as a traceback.
    """
    stop = reactor.stop

    def stop_quietly() -> None:
        with suppress(ReactorNotRunning):
            stop()

    reactor.stop = stop_quietly


def reporter(clock: IReactorTime, status: Callable[[], str], hangs: Callable[[], str] | None = None) -> Reporter:
    """The reporter of this process, to whoever started it. Takes what it needs out of the environment."""
    return Reporter(Notifier.taken_from(os.environ, os.getpid()), clock, status, hangs or (lambda: ""))
