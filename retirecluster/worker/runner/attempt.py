"""One running task, as the runner sees it: its pipes, its deadline, and what it said."""

from __future__ import annotations

import os
import signal

from retirecluster.worker.runner import limits, processes
from retirecluster.worker.runner.output import TAIL_BYTES, Stream, complete_report, send_chunks
from retirecluster.worker.runner.progress_file import NEVER, read_progress
from retirecluster.worker.runner.side import SideChannel
from retirecluster.worker.runner.suspending import continue_tree, stop_tree

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    from retirecluster.worker.runner.output import Say
    from retirecluster.worker.runner.processes import Ended
    from retirecluster.worker.runner.starting import Started

SIDE = "side"
SIGNAL_OF_LIMIT: dict[int, str] = {signal.SIGXCPU: "cpu_time_s", signal.SIGXFSZ: "file_size_bytes"}
DEFAULTS = {
    "file_size_bytes": limits.FILE_SIZE_BYTES,
    "open_files": limits.OPEN_FILES,
    "processes": limits.PROCESSES,
}
"""Limits that a task has without being asked."""
TOLD = frozenset({"file_size_bytes", "open_files"})
"""Those of them that an error of the system is enough to recognise."""


class Attempt:
    """The state of one attempt. `say` sends a message to the worker; times are monotonic seconds."""

    __slots__ = (
        "_file_seen",
        "_progress",
        "_progress_at",
        "_said",
        "_say",
        "_seq",
        "_side",
        "_streamed_bytes",
        "_streams",
        "_turn_began_at",
        "_turn_bytes",
        "began_at",
        "cancelled",
        "cpu_s",
        "deadline",
        "grace_s",
        "hit",
        "kill_at",
        "limits",
        "memory_peak_bytes",
        "number",
        "orphans_cpu_s",
        "pid",
        "pipes",
        "started",
        "suspended_at",
        "suspended_s",
        "timed_out",
    )

    def __init__(self, job: dict[str, Any], started: Started, now: float, say: Say) -> None:
        stdout, stderr, side = started.pipes
        self.number: int = job["n"]
        self.started = started
        self.pid = started.pid
        self.limits: dict[str, Any] = job.get("limits") or {}
        self.grace_s: float = job.get("grace", limits.GRACE_S)
        self.hit = ""
        """The name of the limit for which it was killed."""
        self.cpu_s = 0.0
        """Processor time of its tree when it was last looked at."""
        self.orphans_cpu_s = 0.0
        self.memory_peak_bytes = 0
        self.began_at = now
        self.deadline: float | None = now + job["timeout"]
        self.kill_at: float | None = None
        self.suspended_at: float | None = None
        self.suspended_s = 0.0
        """How long it was stopped in all: that counts neither for its timeout nor for its time."""
        self.timed_out = False
        self.cancelled = False
        self.pipes: dict[int, str] = {stdout: "stdout", stderr: "stderr", side: SIDE}
        self._say = say
        self._streams: dict[str, Stream] = {}  # most tasks print nothing
        self._seq = 0
        self._streamed_bytes = 0
        self._turn_began_at = now
        self._turn_bytes = 0
        self._side = SideChannel()
        self._file_seen = NEVER
        self._said: dict[str, Any] = {}
        self._progress: dict[str, Any] | None = None
        self._progress_at = now - limits.PROGRESS_S

    # Reading

    def read(self, fd: int, now: float) -> bool:
        """Read once from one of its pipes. False when that pipe is at its end and was closed."""
        try:
            data = os.read(fd, limits.READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            self.close_pipe(fd)
            return False
        self._turn_bytes += len(data)
        self._take(self.pipes[fd], data, now)
        return True

    def has_turn(self, now: float) -> bool:
        """True while more may be read of it in this stretch of `TURN_S`."""
        if now - self._turn_began_at >= limits.TURN_S:
            self._turn_began_at = now
            self._turn_bytes = 0
        return self._turn_bytes < limits.TURN_BYTES

    def close_pipe(self, fd: int) -> None:
        del self.pipes[fd]
        os.close(fd)

    def _take(self, pipe: str, data: bytes, now: float) -> None:
        if pipe == SIDE:
            return self._told(data)
        stream = self._streams.get(pipe)
        if stream is None:
            stream = self._streams[pipe] = Stream(pipe, TAIL_BYTES[pipe])
        streaming = self._streamed_bytes < self.limits.get("output_bytes", limits.STREAM_BYTES)
        self._streamed_bytes += len(data)
        stream.feed(data, now, streaming)
        if stream.full:
            self._send_chunks(stream)

    def _send_chunks(self, stream: Stream, final: bool = False) -> None:
        self._seq = send_chunks(stream, self.number, self._seq, self._say, final)

    def _told(self, data: bytes) -> None:
        """Lines on the side channel: progress, and what the first steps of the child have to say."""
        for told in self._side.feed(data):
            progress = told.pop("progress", None)
            self._progress = progress or self._progress
            self._said.update(told)

    def look_at_file(self) -> None:
        """Take progress from the file in its folder, if there is something new."""
        folder = self.started.folder
        if folder is not None and os.access(f"{folder}/{limits.PROGRESS_FILE}", os.F_OK):
            progress, self._file_seen = read_progress(folder, self._file_seen)
            self._progress = progress or self._progress

    # Time

    def next_wake(self) -> float | None:
        """When `tick` has something to do, or None."""
        deadline = self.deadline if self.suspended_at is None else None
        times = [each for each in (deadline, self.kill_at) if each is not None]
        for stream in self._streams.values():
            if stream.waiting_since is not None:
                times.append(stream.waiting_since + limits.FLUSH_S)
        if self._progress is not None:
            times.append(self._progress_at + limits.PROGRESS_S)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Do what is due: the timeout, the kill after the grace, waiting output and progress."""
        if self.deadline is not None and self.suspended_at is None and now >= self.deadline:
            self.timed_out = True
            self.stop(now, self.grace_s)
        if self.kill_at is not None and now >= self.kill_at:
            self.kill_at = None
            processes.kill_group(self.pid, signal.SIGKILL)
        for stream in self._streams.values():
            if stream.waiting_since is not None and now - stream.waiting_since >= limits.FLUSH_S:
                self._send_chunks(stream)
        if self._progress is not None and now - self._progress_at >= limits.PROGRESS_S:
            self._send_progress(now)

    def _send_progress(self, now: float) -> None:
        self._say({"e": "progress", "n": self.number, **(self._progress or {})})
        self._progress = None
        self._progress_at = now

    def suspend(self, now: float) -> None:
        """Stop all its processes where they stand; one that is being ended is left alone."""
        if self.suspended_at is None and self.kill_at is None and not self.timed_out and not self.hit:
            self.suspended_at = now
            stop_tree(self.pid)

    def resume(self, now: float) -> None:
        """Let it go on; its timeout is later by as long as it was stopped."""
        if self.suspended_at is None:
            return
        stopped_s = now - self.suspended_at
        self.suspended_at = None
        self.suspended_s += stopped_s
        if self.deadline is not None:
            self.deadline += stopped_s
        continue_tree(self.pid)

    def stop(self, now: float, grace_s: float) -> None:
        """SIGTERM now, SIGKILL after `grace_s`; SIGKILL at once without a grace."""
        self.resume(now)
        self.deadline = None
        if self.kill_at is not None:
            self.kill_at = min(self.kill_at, now + grace_s)
            return
        self.kill_at = now + grace_s
        processes.kill_group(self.pid, signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
        processes.kill_group(self.pid, signal.SIGCONT)  # a stopped process hears SIGTERM only when it goes on

    def kill_for(self, limit: str) -> None:
        """Kill it at once, because of the limit of this name."""
        self.hit = self.hit or limit
        self.deadline = None
        processes.kill_group(self.pid, signal.SIGKILL)

    # The end

    def add_orphan(self, ended: Ended) -> None:
        """A process of it that the runner has reaped."""
        self.orphans_cpu_s += ended.cpu_s
        self.memory_peak_bytes = max(self.memory_peak_bytes, ended.memory_peak_bytes)

    def finish(self, ended: Ended, now: float) -> None:
        """Its main process was reaped: read what is left in the pipes without waiting, and report."""
        if self.suspended_at is not None:  # killed where it stood
            self.suspended_s += now - self.suspended_at
        for fd in list(self.pipes):
            self._drain(fd, now)
        for stream in self._streams.values():
            self._send_chunks(stream, final=True)
        self.look_at_file()
        if self._progress is not None:
            self._send_progress(now)
        self._say(self._report(ended, now))

    def _drain(self, fd: int, now: float) -> None:
        """Whoever holds the other end may go on writing, or keep it open and silent: neither keeps us here."""
        read_bytes = 0
        try:
            while read_bytes < limits.DRAIN_BYTES and (data := os.read(fd, limits.READ_BYTES)):
                read_bytes += len(data)
                self._take(self.pipes[fd], data, now)
        except BlockingIOError:
            pass
        self.close_pipe(fd)

    def _report(self, ended: Ended, now: float) -> dict[str, Any]:
        group = self.started.group
        used = (0.0, 0) if group is None else group.used()
        report: dict[str, Any] = {
            "e": "end",
            "n": self.number,
            "code": ended.code,
            "signal": ended.signal,
            "wall": round(max(0.0, now - self.began_at - self.suspended_s), 6),
            "cpu": round(max(ended.cpu_s + self.orphans_cpu_s, self.cpu_s, used[0]), 6),
            "peak": max(ended.memory_peak_bytes, self.memory_peak_bytes, used[1]),
            **self._said,
        }
        complete_report(report, self._streams, self.timed_out, self.cancelled)
        if hit := self._limit_hit(ended):
            report["limit"] = hit
        return report

    def _limit_hit(self, ended: Ended) -> dict[str, Any] | None:
        """Which limit ended it, as far as can be told; `killed` is false where it was only refused more."""
        if ended.code == 0 or self.timed_out or self.cancelled:
            return None
        name, killed = self.hit, True
        if not name and self.started.group is not None:
            name, killed = self.started.group.limit_hit(), ended.signal is not None
        if not name and ended.signal is not None:
            name = SIGNAL_OF_LIMIT.get(ended.signal, "")
        if not name and ended.signal == signal.SIGKILL and ended.cpu_s >= self.limits.get("cpu_time_s", 1e18):
            name = "cpu_time_s"
        if not name and isinstance(said := self._said.get("limit"), str) and said in TOLD | self.limits.keys():
            name, killed = said, False
        allowed = self.limits.get(name, DEFAULTS.get(name))
        return {"name": name, "allowed": allowed, "killed": killed} if name and allowed is not None else None
