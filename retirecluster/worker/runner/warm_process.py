"""One warm process, as the runner sees it: its socket, its pipes, and the tasks that it was given."""

from __future__ import annotations

import _socket
import os
import signal
import sys
from collections import deque

from retirecluster.worker.runner import limits, processes
from retirecluster.worker.runner.lines import decode_line, encode_line

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    from retirecluster.worker.runner.processes import Ended
    from retirecluster.worker.runner.starting import Started, Starter
    from retirecluster.worker.runner.warm_task import WarmTask

# Both keep messages apart; macOS has no other one of these.
_KIND = _socket.SOCK_DGRAM if sys.platform == "darwin" else _socket.SOCK_SEQPACKET
_NAMES = ("stdout", "stderr", "side")


class WarmProcess:
    """`tasks` are in the order in which they were given; the first one runs, or is about to.

    For those who look after processes (the watcher, the reaper) it is one attempt that never ends by itself.
    """

    def __init__(self, lane: str, asked: dict[str, Any], now: float) -> None:
        self.lane = lane
        self.limits = {name: value for name, value in asked.items() if name != "cpu_time_s"}
        self.tasks: deque[WarmTask] = deque()
        self.pipes: dict[int, str] = {}
        self.resting: list[int] = []
        self.open = False
        self.stopping = False
        """While it is given nothing more."""
        self.reported = False
        """Whether it ever has: one that has not may never be able to."""
        self.idle_since: float | None = now
        self.kill_at: float | None = None
        self.ended_at = 0.0
        self.hit = ""
        self.cpu_s = 0.0
        self.orphans_cpu_s = 0.0
        self.memory_peak_bytes = 0
        self._parts: list[bytes] = []
        self.started: Started

    def start(self, starter: Starter, job: dict[str, Any], fds: int) -> None:
        """Fork it. Raises OSError."""
        self._near, self._far = (
            _socket.socket(fileno=each.detach()) for each in _socket.socketpair(_socket.AF_UNIX, _KIND, 0)
        )
        try:
            fds = max(fds, self._near.fileno(), self._far.fileno())
            self.started = starter.start(job, fds, self._far.fileno())
        except BaseException:
            self._near.close()
            self._far.close()
            raise
        self.open = True
        self.pid = self.started.pid
        self.number = -self.pid
        self.pipes = dict(zip(self.started.pipes, _NAMES, strict=True))
        for fd in self.pipes:
            os.set_blocking(fd, False)

    # The socket

    def fileno(self) -> int:
        return self._near.fileno()

    def write(self, message: bytes) -> bool:
        """Give it one message. False where it has as many as it can hold, or is gone."""
        try:
            self._near.send(message, _socket.MSG_DONTWAIT)
            return True
        except OSError:
            return False

    def leave_file(self, name: str, task: WarmTask) -> bytes:
        """Put a long job into its folder, where nothing is between two tasks; the message that says so."""
        fd = os.open(f"{self.started.folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            data = memoryview(task.line)
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)
        return encode_line({"n": task.number, "file": name})

    def receive(self) -> bytes | None:
        """One whole report, or None where there is none yet."""
        while self.open:
            try:
                part = self._near.recv(limits.WARM_MESSAGE_BYTES, _socket.MSG_DONTWAIT)
            except OSError:
                return None
            if not part:
                return None
            self._parts.append(part[1:])
            if part[:1] == b".":
                whole = b"".join(self._parts)
                self._parts.clear()
                return whole
        return None

    def take_back(self) -> set[int]:
        """The numbers of jobs that it had not taken from the socket, and now never will."""
        found = set()
        while self.open:
            try:
                found.add(decode_line(self._far.recv(limits.WARM_MESSAGE_BYTES, _socket.MSG_DONTWAIT))["n"])
            except OSError:
                break
        return found

    def close_channel(self) -> None:
        """It hears that it shall leave, once it is done."""
        self.open = False
        self._near.close()
        self._far.close()

    # The pipes

    def read_pipe(self, fd: int) -> bytes | None:
        """What is there; nothing at the end, None where nothing is there yet."""
        try:
            return os.read(fd, limits.READ_BYTES)
        except BlockingIOError:
            return None

    def close_pipe(self, fd: int) -> None:
        del self.pipes[fd]
        os.close(fd)

    def give_pipes(self) -> dict[int, str]:
        """The pipes are another's to close."""
        pipes, self.pipes = self.pipes, {}
        return pipes

    def watched(self) -> list[int]:
        """Descriptors to read from."""
        return [fd for fd in self.pipes if fd not in self.resting] + ([self.fileno()] if self.open else [])

    # What watcher and reaper want of an attempt

    def next_wake(self) -> float | None:
        if self.kill_at is not None:
            return self.kill_at
        if self.tasks:
            head = self.tasks[0].next_wake()
            return head if not self.resting else min(head or 1e18, self.tasks[0].turn_over_at())
        return None if self.idle_since is None else self.idle_since + limits.WARM_IDLE_S

    @property
    def suspended_at(self) -> float | None:
        return self.tasks[0].suspended_at if self.tasks else None

    def add_orphan(self, ended: Ended) -> None:
        self.orphans_cpu_s += ended.cpu_s

    def look_at_file(self) -> None:
        return

    def kill_for(self, limit: str) -> None:
        """Kill it at once, because of the limit of this name."""
        self.hit = self.hit or limit
        processes.kill_group(self.pid, signal.SIGKILL)
