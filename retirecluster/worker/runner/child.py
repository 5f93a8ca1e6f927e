"""The first steps of a forked child: what it may reach, its limits, and then the task's behaviour."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import os

from retirecluster.worker.runner import limits
from retirecluster.worker.runner.behaviours import BEHAVIOURS, end_python, run_entry_point
from retirecluster.worker.runner.lines import encode_line
from retirecluster.worker.runner.processes import processes_of

try:
    import resource
except ImportError:  # Windows, where nothing here limits anything
    resource = None  # type: ignore[assignment]

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from retirecluster.worker.runner.cgroups import Group

SIDE_FD = 3
"""Where the child writes progress, its value and its errors."""
CHANNEL_FD = 4
"""Where a warm child has its socket to the runner."""
WARM = "<warm>"
"""The type of the job that makes a warm child; no task type can have this name."""
FAILED_TO_START = 70
REHEARSALS = 20
"""The interpreter adapts a function's code to what it does within the first sixteen calls or so."""


LIMIT_OF_ERROR = {
    errno.ENOMEM: "memory_bytes",
    errno.EFBIG: "file_size_bytes",
    errno.EMFILE: "open_files",
    errno.EAGAIN: "processes",
}


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

    progress = report_progress

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

    def note_limit(self, error: BaseException) -> None:
        """Say which limit an exception is about, if it is about one."""
        name = "memory_bytes" if isinstance(error, MemoryError) else ""
        if isinstance(error, OSError):
            name = LIMIT_OF_ERROR.get(error.errno or 0, "")
        if name:
            self._tell({"limit": name})

    def _tell(self, record: dict[str, Any]) -> None:
        data = encode_line(record)
        while data:
            data = data[os.write(SIDE_FD, data) :]

    def end_python(self, code: int = 0) -> int:
        """What the interpreter does at its end; the exit code."""
        return end_python(code)

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
    job: dict[str, Any],
    pipes: tuple[int, int, int],
    scratch: str | None,
    parent: int,
    fds: int,
    rules: int = -1,
    group: Group | None = None,
    channel: int = -1,
) -> NoReturn:
    """Turn this freshly forked process into the task.

    `pipes` are the write ends: stdout, stderr, side. All descriptors of the process are below `fds`. `rules` is a
    Landlock ruleset, `channel` the socket of a warm child; -1: none. `group` is the control group that it enters.
    """
    code = FAILED_TO_START
    try:
        os.setsid()
        if os.getppid() != parent:
            os._exit(FAILED_TO_START)
        _plain_signals()
        if group is not None:
            for door in group.doors:
                os.write(door, b"0")
        if rules >= 0:
            from retirecluster.worker.runner.landlock import restrict_self

            restrict_self(rules)
        _only_own_files(pipes, fds, channel)
        _limit(job.get("limits") or {}, group)
        _set_environment(job, scratch)
        os.chdir(scratch or "/")
        code = behave(job, scratch or "/")
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


def _only_own_files(pipes: tuple[int, int, int], fds: int, channel: int) -> None:
    # The runner keeps 0 on /dev/null and 3 occupied, so no pipe of ours is overwritten here.
    stdout, stderr, side = pipes
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.dup2(side, SIDE_FD)
    first = SIDE_FD + 1
    if channel >= 0:
        os.dup2(channel, CHANNEL_FD)
        first = CHANNEL_FD + 1
    os.closerange(first, fds)


def _limit(asked: dict[str, Any], group: Group | None) -> None:
    """The resource limits; core files are off since the runner's start, and inherited.

    A control group counts the memory of the whole tree; without one the address space of each process is limited.
    """
    _lower(resource.RLIMIT_NOFILE, asked.get("open_files", limits.OPEN_FILES))
    _lower(resource.RLIMIT_FSIZE, asked.get("file_size_bytes", limits.FILE_SIZE_BYTES))
    if not asked:
        return
    if "memory_bytes" in asked and not (group is not None and group.counts("memory_bytes")):
        _lower(resource.RLIMIT_AS, asked["memory_bytes"])
    if "processes" in asked and not (group is not None and group.counts("processes")) and os.geteuid() != 0:
        # The kernel counts all of this user's, and none of root's. The sampling counts those of the task.
        _lower(resource.RLIMIT_NPROC, processes_of(os.geteuid()) + asked["processes"])
    if "cpu_time_s" in asked:
        # Whole seconds: the sampling in the runner is finer. SIGXCPU comes at the soft limit, which names it.
        _lower(resource.RLIMIT_CPU, max(1, -int(-asked["cpu_time_s"] // 1)), 1)


def _lower(which: int, value: int, reserve: int = 0) -> None:
    """Set a limit for good, never above what the runner itself may have; the hard one `reserve` higher."""
    hard = resource.getrlimit(which)[1]
    bound, top = value, value + reserve
    if hard != resource.RLIM_INFINITY:
        bound, top = min(bound, hard), min(top, hard)
    resource.setrlimit(which, (bound, top))


def _set_environment(job: dict[str, Any], scratch: str | None) -> None:
    """What is the same for all tasks is in the runner's own environment already."""
    variables = {**job["env"], **given_variables(scratch, os.fstat(SIDE_FD).st_ino)}
    # What `os.environ[name] = value` does, without its five calls for each: a tenth of a small task.
    known: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    put = os.putenv
    for name, value in variables.items():
        key, data = name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape")
        put(key, data)
        known[key] = data


def rehearse() -> None:
    """Go through the steps of a small task in the runner itself, before there are any.

    The interpreter writes into code that is new to it and into its lookup caches; what it has written here, no child
    has to write again on pages of its own. Standard output and the side channel lead nowhere at this time.
    """
    variables = {**os.environ, "RETIRE_TASK_ID": "", "RETIRE_EPOCH": "0"}
    job = {"type": "python_eval", "payload": {"expression": "1 + 1"}, "env": variables, "timeout": 1.0}
    for _ in range(REHEARSALS):
        _set_environment(job, "")
        behave(job, "/")


def given_variables(folder: str | None, side_inode: int) -> dict[str, str]:
    """What a task is told of its folder, and of the pipe for its progress: a number may be used again, a pipe not."""
    variables = {"RETIRE_PROGRESS_PIPE": str(side_inode)}
    if folder is not None:
        variables["HOME"] = variables["TMPDIR"] = variables["RETIRE_SCRATCH"] = folder
        variables["RETIRE_PROGRESS_FILE"] = f"{folder}/{limits.PROGRESS_FILE}"
    return variables


def behave(job: dict[str, Any], scratch: str) -> int:
    """Do the job of this process, be it a task or the many of a warm child; its exit code."""
    if job["type"] == WARM:
        from retirecluster.worker.runner.warm_child import serve

        return serve(job, scratch)
    return perform(job, TaskContext(job, scratch))


def perform(job: dict[str, Any], context: TaskContext) -> int:
    """Do what the task's type does, in this process; its exit code."""
    try:
        if job.get("entry"):
            return run_entry_point(job["entry"], job["payload"], context)
        return BEHAVIOURS[job["type"]](job["payload"], context)
    except BaseException as error:
        return 1 if context.forked else report_exception(error, context)


def report_exception(error: BaseException, context: TaskContext) -> int:
    """Tell that the task has raised an exception; its exit code."""
    from retirecluster.worker.runner.behaviours import last_lines

    context.note_limit(error)
    context.give_error("exception", last_lines(error))
    return 1
