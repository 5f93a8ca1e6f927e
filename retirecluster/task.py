"""For the code of a task: what it is, where it may write, and how far it has come.

    from retirecluster import task

    for number, name in enumerate(names, 1):
        convert(name)
        task.progress(number, len(names), name)

Everything here also works outside a task, so that a script runs unchanged at home: `progress` does nothing then,
ids are empty, and folders are the current one.
"""

from __future__ import annotations

import json
import os
import stat

__all__ = ["checkpoint", "device_id", "epoch", "inputs", "progress", "scratch", "task_id"]


def progress(done: float, total: float | None = None, message: str = "") -> None:
    """Tell how far the task is: `done` of `total`, or without `total` `done` percent; and a few words."""
    if not task_id():
        return
    percent = done if total is None else 100.0 * done / total if total else 100.0
    record = {"percent": round(min(100.0, max(0.0, percent)), 2), "message": str(message)[:1000]}
    line = json.dumps(record).encode() + b"\n"
    try:
        _write(line)
    except OSError:  # nobody listens any more: no reason for the task to fail
        return


def _write(line: bytes) -> None:
    fd = _descriptor()
    if fd is not None:
        os.write(fd, line)
    elif path := os.environ.get("RETIRE_PROGRESS_FILE"):
        with open(path, "ab") as file:
            file.write(line)


def _descriptor() -> int | None:
    """The descriptor for progress; None where a program in between has closed it and may use its number again."""
    try:
        fd = int(os.environ["RETIRE_PROGRESS_FD"])
        found = os.fstat(fd)
    except (KeyError, ValueError, OSError):
        return None
    same = str(found.st_ino) == os.environ.get("RETIRE_PROGRESS_PIPE")
    return fd if same and stat.S_ISFIFO(found.st_mode) else None


def task_id() -> str:
    """The id of the task; empty outside one."""
    return os.environ.get("RETIRE_TASK_ID", "")


def epoch() -> int:
    """Which attempt this is: 1, 2, 3...; a number never comes twice. 0 outside a task."""
    return int(os.environ.get("RETIRE_EPOCH") or 0)


def device_id() -> str:
    """The device it runs on; empty outside a task."""
    return os.environ.get("RETIRE_DEVICE_ID", "")


def scratch() -> str:
    """A folder for this attempt alone, which is removed after it; the current folder outside a task."""
    return os.environ.get("RETIRE_SCRATCH") or os.getcwd()


def inputs() -> list[str]:
    """The names of the task's input files, relative to its folder; none outside a task, or where they are too many
    for a variable."""
    return [name for name in os.environ.get("RETIRE_INPUTS", "").split("\n") if name]


def checkpoint() -> str | None:
    """A folder that the next attempt of this task on this device finds again; None for tasks without one."""
    return os.environ.get("RETIRE_CHECKPOINT")
