"""One task in a warm process, as the runner sees it. Its clock runs from when the task before it was over."""

from __future__ import annotations

from retirecluster.worker.runner import limits
from retirecluster.worker.runner.attempt import Attempt

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    from retirecluster.worker.runner.output import Say
    from retirecluster.worker.runner.processes import Ended
    from retirecluster.worker.runner.starting import Started
    from retirecluster.worker.runner.warm_process import WarmProcess

SAID = ("value", "error", "truncated", "limit")
LOOK_S = 1.0


class _Nowhere:
    """Where a task is that has no process yet."""

    pid = 0
    pipes = (-1, -2, -3)
    folder = None
    group = None


class _Told:
    """How a task ended by the word of its process, in the form of a process that was reaped."""

    __slots__ = ("code", "cpu_s", "memory_peak_bytes", "signal")

    def __init__(self, report: dict[str, Any]) -> None:
        self.code = _whole(report.get("code"))
        self.signal = None
        self.cpu_s = _number(report.get("cpu"))
        self.memory_peak_bytes = _whole(report.get("peak"))


class WarmTask(Attempt):
    """`line` is its order as it came; `written` whether its process may take it."""

    __slots__ = ("lane", "line", "look_at", "tasks", "timeout_s", "told", "written")

    def __init__(self, job: dict[str, Any], line: bytes, say: Say) -> None:
        super().__init__(job, _Nowhere, 0.0, say)  # type: ignore[arg-type]
        self.pipes = {}
        self.deadline = None
        self.lane: str = job["lane"]
        self.tasks: int = job.get("tasks", limits.WARM_TASKS)
        self.timeout_s: float = job["timeout"]
        self.line = line
        self.written = False
        self.told = False
        self.look_at = 0.0

    def enter(self, started: Started) -> None:
        """It is given to a process."""
        self.started = started
        self.pid = started.pid
        self.written = False

    def begin(self, now: float) -> None:
        """It is the next one of its process."""
        self.began_at = now
        self.deadline = now + self.timeout_s
        self.look_at = now + LOOK_S

    def take(self, pipe: str, data: bytes, now: float) -> bool:
        """What its process has written to a pipe. False where it has to wait with more."""
        self._turn_bytes += len(data)
        self._take(pipe, data, now)
        return self.has_turn(now)

    def turn_over_at(self) -> float:
        """When it may write more, after it has written too much."""
        return self._turn_began_at + limits.TURN_S

    def next_wake(self) -> float | None:
        wake = super().next_wake()
        own = self.look_at if self.told else self.began_at + limits.WARM_TOLD_S
        return own if wake is None else min(wake, own)

    def tick(self, now: float) -> None:
        super().tick(now)
        if not self.told and now >= self.began_at + limits.WARM_TOLD_S:
            self.told = True
            self._say({"e": "started", "n": self.number, "pid": self.pid})
        if now >= self.look_at:
            self.look_at = now + LOOK_S
            self.look_at_file()

    # The end

    def end(self, report: dict[str, Any], now: float) -> None:
        """Its process says that it is over."""
        for name in SAID:
            if name in report:
                self._said[name] = report[name]
        self.started = _Nowhere  # type: ignore[assignment]  # its group counts all tasks of the process
        self.finish(_Told(report), now)  # type: ignore[arg-type]

    def die(self, ended: Ended, process: WarmProcess) -> None:
        """Its process has ended under it."""
        self.pipes = process.give_pipes()
        self.orphans_cpu_s += process.orphans_cpu_s
        self.hit = self.hit or process.hit
        self.finish(ended, process.ended_at)

    def never_began(self) -> None:
        """It was cancelled before its turn came."""
        self._say({"e": "end", "n": self.number, "code": None, "signal": None, "wall": 0.0, "cancelled": True})

    def fail(self, kind: str, message: str) -> None:
        """There is no process for it."""
        self._say({"e": "end", "n": self.number, "error": {"kind": kind, "message": message, "retryable": True}})


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 62 else 0


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e9 else 0.0
