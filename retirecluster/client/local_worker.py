"""The worker that uses a data folder of this device: whether it runs, ending it, and whether a main has let it in."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from retirecluster.client.join_record import HOME

SIGNED_WITHIN_S, ENDED_WITHIN_S = 10.0, 60.0
LOOK_EVERY_S = 0.1


@frozen
class LocalWorker:
    """Known by what it keeps in its folder: the lock that it holds and signs, and the cluster that it is in."""

    folder: Path

    def runs(self) -> bool:
        """Whether a process holds the lock. Not to be asked while one starts: it could not take it meanwhile."""
        try:
            import fcntl  # here: Windows has none
        except ImportError:
            return False
        try:
            lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    @property
    def pid(self) -> int | None:
        """The process that has signed the lock, if it is a worker."""
        try:
            pid = int((self.folder / "lock").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if b"retire-worker" in words else None

    def end(self) -> bool:
        """Ask a running worker to end, and wait until it has; False if it still runs."""
        if not self.runs():
            return True
        # One that starts just now has the lock and has not signed it yet.
        until(lambda: self.pid is not None, SIGNED_WITHIN_S)
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        return until(lambda: not self.runs(), ENDED_WITHIN_S if pid is not None else 0.0)

    @property
    def registration(self) -> tuple[int, int] | None:
        """Changes when a worker is let in for the first time in its life."""
        try:
            found = (self.folder / HOME).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def until(check: Callable[[], bool], within_s: float) -> bool:
    """Wait for something, so long at most; whether it is so."""
    end = time.monotonic() + within_s
    while not check():
        if time.monotonic() >= end:
            return False
        time.sleep(LOOK_EVERY_S)
    return True
