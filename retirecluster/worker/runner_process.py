"""The worker's end of the runner's channel."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

import retirecluster.worker.runner as runner_package

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT", "COMSPEC", "PATHEXT")
"""The last three are what programs need on Windows."""
Report = dict[str, Any]


@frozen
class RunnerSettings:
    """How a runner is started. `variables` are the only environment it and its tasks have; `fence` is what
    `fences.Fence` says of its level, for the runner's entry."""

    scratch: str
    variables: Mapping[str, str]
    fence: Mapping[str, Any] = {}
    executable: str = sys.executable

    def command(self) -> list[str]:
        """Isolated and without the site module: the smallest interpreter there is to fork."""
        settings = {"scratch": self.scratch, **self.fence}
        if wrapper := settings.pop("wrapper", None):
            settings["enter"] = [*wrapper, *interpreter(self.executable)]
        return [*interpreter(self.executable), json.dumps(settings), *package_places()]


def interpreter(executable: str = sys.executable) -> list[str]:
    """The words before the runner's own arguments."""
    return [executable, "-I", "-S", "-X", "utf8", os.path.join(os.path.dirname(runner_package.__file__), "__main__.py")]


def package_places() -> list[str]:
    """Where tasks find the packages that are installed beside the worker."""
    return [path for path in sys.path if path and os.path.isabs(path)]


def task_variables(environ: Mapping[str, str], more: tuple[str, ...] = ()) -> dict[str, str]:
    """What of the worker's environment tasks see."""
    kept = {name: environ[name] for name in (*KEPT_VARIABLES, *more) if name in environ}
    return {"PATH": os.defpath, "LANG": "C.UTF-8"} | kept


class RunnerProcess(ProcessProtocol):
    """One runner. Reports go to `on_report`, its end to `on_end`."""

    log = Logger()
    transport: Any

    def __init__(self, on_report: Callable[[Report], None], on_end: Callable[[str], None]) -> None:
        self._on_report = on_report
        self._on_end = on_end
        self._tail: list[bytes] = []
        self.pid: int | None = None

    def start(self, reactor: IReactorProcess, settings: RunnerSettings) -> None:
        command = settings.command()
        reactor.spawnProcess(self, command[0], command, env=dict(settings.variables))

    def connectionMade(self) -> None:
        self.pid = self.transport.pid

    def order(self, order: dict[str, Any]) -> None:
        """Send one order."""
        self.transport.writeToChild(0, json.dumps(order, separators=(",", ":")).encode() + b"\n")

    def leave(self) -> None:
        """Close the channel: the runner kills its tasks and ends."""
        self.transport.closeStdin()

    def kill(self) -> None:
        self.transport.signalProcess("KILL")

    def pause(self) -> None:
        """Read nothing of it for now."""
        self.transport.pauseProducing()

    def resume(self) -> None:
        self.transport.resumeProducing()

    def outReceived(self, data: bytes) -> None:
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._tail:
            lines[0] = b"".join([*self._tail, lines[0]])
            self._tail.clear()
        if rest:
            self._tail.append(rest)
        for line in lines:
            self._on_report(json.loads(line))

    def errReceived(self, data: bytes) -> None:
        self.log.warn("runner: {text}", text=data.decode("utf-8", "replace").strip())

    def processEnded(self, reason: Failure) -> None:
        self._on_end(reason.getErrorMessage())
