"""The first steps of a forked child: what it may reach, its limits, and then the task's behaviour."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import resource

from retirecluster.worker.runner import limits
from retirecluster.worker.runner.behaviours import BEHAVIOURS, run_entry_point
from retirecluster.worker.runner.lines import encode_line

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any, NoReturn

SIDE_FD = 3
"""Where the child writes progress, its value and its errors."""
FAILED_TO_START = 70


class TaskContext:
    """What a behaviour knows of its task. A type from another package gets it as its second argument."""

    def __init__(self, job: dict[str, Any], scratch: str) -> None:
        environment = job["env"]
        self.task_id: str = environment.get("RETIRE_TASK_ID", "")
        self.epoch = int(environment.get("RETIRE_EPOCH", "0"))
        self.device_id = os.environ.get("RETIRE_DEVICE_ID", "")
        self.scratch = scratch
        self.options: dict[str, Any] = job.get("options") or {}
        self.timeout_s: float = job["timeout"]
        self._owner = os.getpid()

    def report_progress(self, percent: float | None = None, message: str = "") -> None:
        """Say how far the task is: percent from 0 to 100 (or None) and a few words."""
        self._tell({"percent": percent, "message": message})

    def give_value(self, value: Any) -> None:
        """The task's output. A string keeps its end; another value is refused where its JSON text is too long."""
        if isinstance(value, str):
            text, cut = last_bytes(value, limits.STDOUT_TAIL_BYTES)
            self._tell({"value": text, "truncated": True} if cut else {"value": text})
            return
        try:
            encoded = encode_line({"value": value})
        except (TypeError, ValueError, RecursionError) as error:
            return self.give_error("result", f"the result is no JSON value: {error}", retryable=False)
        if len(encoded) > limits.VALUE_BYTES:
            message = f"the result has {len(encoded)} bytes as JSON; at most {limits.VALUE_BYTES} are kept"
            return self.give_error("result", message, retryable=False)
        self._tell({"value": value})

    def give_error(self, kind: str, message: str, retryable: bool = True) -> None:
        """Why the task failed."""
        text = message[-limits.ERROR_CHARS :].encode("utf-8", "backslashreplace").decode()
        self._tell({"error": {"kind": kind, "message": text, "retryable": retryable}})

    def _tell(self, record: dict[str, Any]) -> None:
        data = encode_line(record)
        while data:
            data = data[os.write(SIDE_FD, data) :]

    @property
    def forked(self) -> bool:
        """True in a process that the task forked and that came back here: it has nothing to report."""
        return os.getpid() != self._owner


def last_bytes(text: str, limit_bytes: int) -> tuple[str, bool]:
    """The end of `text` in at most `limit_bytes` of UTF-8, and whether something was cut."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit_bytes:
        return data.decode(), False
    return data[-limit_bytes:].decode("utf-8", "ignore"), True


def become_task(
    job: dict[str, Any], pipes: tuple[int, int, int], scratch: str | None, parent: int, fds: int
) -> NoReturn:
    """Turn this freshly forked process into the task.

    `pipes` are the write ends: stdout, stderr, side. All descriptors of the process are below `fds`.
    """
    code = FAILED_TO_START
    try:
        os.setsid()
        if os.getppid() != parent:
            os._exit(FAILED_TO_START)
        _plain_signals()
        _only_own_files(pipes, fds)
        _limit(job.get("limits") or {})
        _set_environment(job, scratch)
        os.chdir(scratch or "/")
        code = _behave(job, scratch or "/")
    except BaseException as error:
        os.write(2, f"the task could not be started: {error!r}\n".encode("utf-8", "replace"))
    finally:
        os._exit(code)


def _plain_signals() -> None:
    # The C module: the enums of `signal` would have this child copy a dozen pages more.
    _signal.set_wakeup_fd(-1)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    # A SIGTERM that came before this is delivered now.
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _only_own_files(pipes: tuple[int, int, int], fds: int) -> None:
    # The runner keeps 0 on /dev/null and 3 occupied, so no pipe of ours is overwritten here.
    stdout, stderr, side = pipes
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.dup2(side, SIDE_FD)
    os.closerange(SIDE_FD + 1, fds)


def _limit(asked: dict[str, Any]) -> None:
    """The resource limits; core files are off since the runner's start, and inherited."""
    _lower(resource.RLIMIT_NOFILE, asked.get("open_files") or limits.OPEN_FILES)
    _lower(resource.RLIMIT_FSIZE, asked.get("file_size_bytes") or limits.FILE_SIZE_BYTES)
    if asked.get("address_space_bytes"):
        _lower(resource.RLIMIT_AS, int(asked["address_space_bytes"]))
    if asked.get("cpu_s"):
        _lower(resource.RLIMIT_CPU, int(asked["cpu_s"]))


def _lower(which: int, value: int) -> None:
    """Set a limit for good, never above what the runner itself may have."""
    hard = resource.getrlimit(which)[1]
    bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (bound, bound))


def _set_environment(job: dict[str, Any], scratch: str | None) -> None:
    """What is the same for all tasks is in the runner's own environment already."""
    environ = os.environ
    for name, value in job["env"].items():
        environ[name] = value
    if scratch is not None:
        environ["HOME"] = environ["TMPDIR"] = environ["RETIRE_SCRATCH"] = scratch


def _behave(job: dict[str, Any], scratch: str) -> int:
    context = TaskContext(job, scratch)
    try:
        if job.get("entry"):
            return run_entry_point(job["entry"], job["payload"], context)
        return BEHAVIOURS[job["type"]](job["payload"], context)
    except BaseException as error:
        return 1 if context.forked else _report_exception(error, context)


def _report_exception(error: BaseException, context: TaskContext) -> int:
    from retirecluster.worker.runner.behaviours import last_lines

    context.give_error("exception", last_lines(error))
    return 1
