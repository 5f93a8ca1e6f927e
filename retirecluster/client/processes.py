"""Child processes whose output goes to log files, and which never outlive the program that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define
from twisted.internet.task import deferLater

_POLL_S = 0.05
_PR_SET_PDEATHSIG = 1


@define
class Child:
    """One child process. `log` is where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self.process.poll()

    def terminate(self) -> None:
        """Ask it to stop (SIGTERM)."""
        if self.exit_code is None:
            self.process.terminate()

    def kill(self) -> None:
        """End it and the process group it leads."""
        if self.exit_code is not None:
            return
        if hasattr(os, "killpg"):
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()

    def how(self) -> str:
        """`exit code 1`, `signal 9`, or that it still runs."""
        code = self.exit_code
        return "no end yet" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"

    def how_it_ended(self) -> str:
        """How it ended, where its log is, and the last lines of that."""
        said = "; ".join(self.tail(3))
        return f"{self.how()}; its log {self.log} " + (f"ends with: {said}" if said else "is empty")

    def tail(self, lines: int) -> list[str]:
        """The last lines of its log."""
        try:
            text = self.log.read_text("utf-8", errors="replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()][-lines:]


def start_child(name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> Child:
    """Start a program in a session of its own, so that Ctrl+C reaches us alone and children stop in order."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
            preexec_fn=_leash(),
        )
    return Child(name, process, log)


def _leash() -> Callable[[], None] | None:
    """What makes a child on Linux get SIGTERM when this process is gone without a farewell (kill -9)."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        prctl: Any = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None

    def leash() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

    return leash


async def stop_children(reactor: Any, children: Iterable[Child], grace_s: float) -> list[Child]:
    """SIGTERM to all, SIGKILL to those that are still there after `grace_s`; gives those that had to be killed.

    Cancelled (a second Ctrl+C), it kills at once.
    """
    running = [child for child in children if child.exit_code is None]
    for child in running:
        child.terminate()
    until = reactor.seconds() + grace_s
    try:
        while reactor.seconds() < until and any(child.exit_code is None for child in running):
            await deferLater(reactor, _POLL_S)
    finally:
        killed = [child for child in running if child.exit_code is None]
        for child in killed:
            child.kill()
        for child in killed:
            child.process.wait()
    return killed
