"""A warm process: takes jobs of one submitter one after another, and gives itself back clean after each.

Runs in a child that the runner has forked and fenced as it does for any task. Jobs come and reports go through one
socket that keeps messages apart: a job that has not been taken from it has not begun, and the runner may take it
back. What a task prints goes through the same pipes as always; a report is sent once the runner has read them empty,
so that no output is taken for the next task's.
"""

from __future__ import annotations

import fcntl
import os
import resource
import struct
import sys
import termios
import time

from retirecluster.worker.runner import limits, processes
from retirecluster.worker.runner.behaviours import end_python, flush_output
from retirecluster.worker.runner.child import CHANNEL_FD, TaskContext, perform
from retirecluster.worker.runner.lines import decode_line, encode_line
from retirecluster.worker.runner.restoring import FIRST_FD, Restorer, threads_left

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

DRAIN_PAUSE_S = 0.0001
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


class WarmContext(TaskContext):
    """What a behaviour knows of its task; its value and its error go into the report."""

    def __init__(self, job: dict[str, Any], scratch: str) -> None:
        super().__init__(job, scratch)
        self.said: dict[str, Any] = {}
        self.ended_python = False
        """Whether the interpreter was brought to its end: this process cannot be used again."""

    def _tell(self, record: dict[str, Any]) -> None:
        if "percent" in record:
            super()._tell(record)
        else:
            self.said.update(record)

    def end_python(self, code: int = 0) -> int:
        """Threads that the task has left are waited for, as at the end of any Python program."""
        if threads_left():
            self.ended_python = True
            return end_python(code)
        return flush_output(code)


def serve(job: dict[str, Any], scratch: str) -> int:
    """Do jobs until the runner closes the channel; `job` says after how many to leave."""
    channel = fcntl.fcntl(CHANNEL_FD, fcntl.F_DUPFD_CLOEXEC, FIRST_FD)
    os.close(CHANNEL_FD)
    processes.end_with_parent()
    processes.adopt_orphans()
    restorer = Restorer(scratch)
    left: int = job["payload"]["tasks"]
    buffer = bytearray(limits.WARM_MESSAGE_BYTES)
    while left > 0 and (size := os.readv(channel, [buffer])):
        left -= 1
        report = _perform(_read_job(bytes(buffer[:size]), scratch), scratch, restorer, last=left == 0)
        if "leaving" not in report:
            _wait_until_read(restorer.outputs)
        _send(channel, report)
        if report.get("leaving") == restorer.DIRTY:
            os._exit(0)
    return end_python()


def _read_job(data: bytes, scratch: str) -> dict[str, Any]:
    job: dict[str, Any] = decode_line(data)
    if "file" in job:  # too long for one message
        path = f"{scratch}/{job['file']}"
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        job = decode_line(data)
    return job


def _perform(job: dict[str, Any], scratch: str, restorer: Restorer, last: bool) -> dict[str, Any]:
    me = os.getpid()
    began_at, cpu_s = time.monotonic(), _cpu_s()
    restorer.begin(job["env"], bool(job["payload"].get("stdin")))
    if "cpu_time_s" in job.get("limits", ()):
        _limit_cpu(cpu_s + job["limits"]["cpu_time_s"])
    context = WarmContext(job, scratch)
    code = perform(job, context)
    if os.getpid() != me:  # a copy that the task has forked came back here: it has nothing to report
        os._exit(code)
    code = flush_output(code)
    why = restorer.restore() or (restorer.DIRTY if context.ended_python else "")
    usage = resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "n": job["n"],
        "code": code,
        "wall": round(time.monotonic() - began_at, 6),
        "cpu": round(_cpu_s() - cpu_s, 6),
        "peak": usage.ru_maxrss * _MAXRSS_BYTES,
        **context.said,
    }
    if why or last:
        report["leaving"] = why or "tasks"
    return report


def _limit_cpu(until_s: float) -> None:
    """The soft limit counts from the start of the process, so it moves along with each task."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (max(1, -int(-until_s // 1)), hard))


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _wait_until_read(pipes: tuple[int, ...]) -> None:
    """Return once the runner has read everything that was written to these pipes."""
    for fd in pipes:
        while struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0"))[0]:
            time.sleep(DRAIN_PAUSE_S)


def _send(channel: int, report: dict[str, Any]) -> None:
    """One report in as many messages as it needs: each begins with `+` if more follow, else with a point."""
    data = encode_line(report)
    size = limits.WARM_MESSAGE_BYTES - 1
    for start in range(0, len(data), size):
        part = data[start : start + size]
        os.write(channel, (b"+" if start + size < len(data) else b".") + part)
