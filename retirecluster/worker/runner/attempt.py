"""One running task, as the runner sees it: its pipes, its deadline, and what it said."""

from __future__ import annotations

import os
import signal

from retirecluster.worker.runner import limits, processes
from retirecluster.worker.runner.lines import decode_line
from retirecluster.worker.runner.output import Stream

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from retirecluster.worker.runner.processes import Ended

    Say = Callable[[dict[str, Any]], None]

SIDE = "side"
TAIL_BYTES = {"stdout": limits.STDOUT_TAIL_BYTES, "stderr": limits.STDERR_TAIL_BYTES}


class Attempt:
    """The state of one attempt. `say` sends a message to the worker; times are monotonic seconds."""

    __slots__ = (
        "_progress",
        "_progress_at",
        "_said",
        "_say",
        "_seq",
        "_side",
        "_side_open",
        "_streamed_bytes",
        "_streams",
        "_turn_began_at",
        "_turn_bytes",
        "began_at",
        "cancelled",
        "deadline",
        "kill_at",
        "number",
        "pid",
        "pipes",
        "scratch",
        "timed_out",
    )

    def __init__(self, number: int, pid: int, scratch: str | None, now: float, timeout_s: float, say: Say) -> None:
        self.number = number
        self.pid = pid
        self.scratch = scratch
        self.began_at = now
        self.deadline: float | None = now + timeout_s
        self.kill_at: float | None = None
        self.timed_out = False
        self.cancelled = False
        self.pipes: dict[int, str] = {}
        self._say = say
        self._streams: dict[str, Stream] = {}  # most tasks print nothing
        self._seq = 0
        self._streamed_bytes = 0
        self._turn_began_at = now
        self._turn_bytes = 0
        self._side = b""
        self._side_open = True
        self._said: dict[str, Any] = {}
        self._progress: dict[str, Any] | None = None
        self._progress_at = now - limits.PROGRESS_S

    def listen(self, stdout: int, stderr: int, side: int) -> None:
        """Take over the read ends of its three pipes."""
        self.pipes = {stdout: "stdout", stderr: "stderr", side: SIDE}

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
        streaming = self._streamed_bytes < limits.STREAM_BYTES
        self._streamed_bytes += len(data)
        stream.feed(data, now, streaming)
        if stream.full:
            self._send_chunks(stream)

    def _send_chunks(self, stream: Stream, final: bool = False) -> None:
        for chunk in stream.take_chunks(final):
            self._say({"e": "output", "n": self.number, "stream": stream.name, "seq": self._seq, "data": chunk})
            self._seq += 1

    def _told(self, data: bytes) -> None:
        """Lines on the side channel: progress, and what the first steps of the child have to say."""
        if not self._side_open:
            return
        self._side += data
        *lines, rest = self._side.split(b"\n")
        self._side = rest
        for line in lines:
            self._told_line(line)
        if len(self._side) > limits.SIDE_LINE_BYTES:
            self._side_open = False
            self._side = b""

    def _told_line(self, line: bytes) -> None:
        try:
            record = decode_line(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(record, dict):
            return
        if "value" in record or "error" in record:
            self._said.update(record)
        elif "percent" in record or "message" in record:
            self._progress = _checked_progress(record)

    # Time

    def next_wake(self) -> float | None:
        """When `tick` has something to do, or None."""
        times = [each for each in (self.deadline, self.kill_at) if each is not None]
        for stream in self._streams.values():
            if stream.waiting_since is not None:
                times.append(stream.waiting_since + limits.FLUSH_S)
        if self._progress is not None:
            times.append(self._progress_at + limits.PROGRESS_S)
        return min(times, default=None)

    def tick(self, now: float) -> None:
        """Do what is due: the timeout, the kill after the grace, waiting output and progress."""
        if self.deadline is not None and now >= self.deadline:
            self.timed_out = True
            self.stop(now, limits.GRACE_S)
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

    def stop(self, now: float, grace_s: float) -> None:
        """SIGTERM now, SIGKILL after `grace_s`; SIGKILL at once without a grace."""
        self.deadline = None
        if self.kill_at is not None:
            self.kill_at = min(self.kill_at, now + grace_s)
            return
        self.kill_at = now + grace_s
        processes.kill_group(self.pid, signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
        processes.kill_group(self.pid, signal.SIGCONT)  # a stopped process hears SIGTERM only when it goes on

    # The end

    def finish(self, ended: Ended, now: float) -> None:
        """Its main process was reaped: read what is left in the pipes without waiting, and report."""
        for fd in list(self.pipes):
            self._drain(fd, now)
        for stream in self._streams.values():
            self._send_chunks(stream, final=True)
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
        report: dict[str, Any] = {
            "e": "end",
            "n": self.number,
            "code": ended.code,
            "signal": ended.signal,
            "wall": round(now - self.began_at, 6),
            "cpu": round(ended.cpu_s, 6),
            "peak": ended.memory_peak_bytes,
            **self._said,
        }
        for name, said in (("timed_out", self.timed_out), ("cancelled", self.cancelled)):
            if said:
                report[name] = True
        for stream in self._streams.values():
            if text := stream.tail():
                report[stream.name] = text
        if any(stream.cut for stream in self._streams.values()):
            report["truncated"] = True
        return report


def _checked_progress(record: dict[str, Any]) -> dict[str, Any]:
    """A task may write anything: only a percentage from 0 to 100 and a short text go on."""
    percent, message = record.get("percent"), record.get("message")
    known = isinstance(percent, (int, float)) and not isinstance(percent, bool) and 0 <= percent <= 100
    text = message[:1000] if isinstance(message, str) else ""
    return {"percent": percent if known else None, "message": text.encode("utf-8", "replace").decode()}
