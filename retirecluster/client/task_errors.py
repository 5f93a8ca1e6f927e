"""What is raised for tasks that did not come to a good end. All of it is a `ClusterError`.

ClusterError                      refused, unreachable, wrong options: `.code` says which
  TaskFailed                      the task ended, and not with success
    TaskCancelled                 somebody cancelled it
    TaskTimedOut                  it ran longer than its timeout, or its deadline passed
  WaitTimeout (and TimeoutError)  it goes on; the time that was to be waited is over
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from retirecluster.domain.errors import ClusterError

_LOOK = "look at what it printed with output()"
_NEXT = {
    "cancelled": "submit it again, or call retry() on the task",
    "timeout": "give it more time with timeout_s, or less to do",
    "expired": "give it a later deadline_s, or look with why() for what it waited for",
    "lost": "nobody can tell whether it ran: look at what it does, then call retry() on the task",
    "died": f"{_LOOK}, and at the limits of its device",
    "signal": f"{_LOOK}, and at the limits of its device",
    "memory": "ask for more with limits, or a device with more memory with requirements",
}


class TaskFailed(ClusterError):
    """A task that ended without success.

    `how` says in a word how: exception, timeout, signal, died, cancelled, expired, lost, ... `remote_traceback` is the
    text of the traceback on the device, if there was one; `result` the whole result document.
    """

    def __init__(self, how: str, message: str, result: Mapping[str, Any] | None = None) -> None:
        self.how = how
        self.result = dict(result or {})
        self.task_id = str(self.result.get("task_id") or "")
        self.remote_traceback = message if message.startswith("Traceback ") else ""
        hint = _NEXT.get(how, "" if self.remote_traceback else _LOOK)
        name = f"{self.task_id}: " if self.task_id else ""
        super().__init__("task_failed", f"{name}{message}" + (f"; {hint}" if hint else ""))


class TaskCancelled(TaskFailed):
    """Somebody cancelled the task."""


class TaskTimedOut(TaskFailed):
    """The task ran longer than its timeout, or did not end before its deadline."""


class WaitTimeout(ClusterError, TimeoutError):
    """It was waited long enough; the task goes on. Wait again, or cancel() it."""

    def __init__(self, message: str) -> None:
        super().__init__("timeout", message)


def failure_of(result: Mapping[str, Any]) -> TaskFailed:
    """The error for the result of a task that did not end with success."""
    error = result.get("error")
    told: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    status = str(result.get("status") or "failed")
    message = str(told.get("message") or f"it is {status}")
    how = str(told.get("kind") or status)
    if status == "cancelled":
        return TaskCancelled("cancelled", message, result)
    if status == "expired" or how == "timeout":
        return TaskTimedOut(how, message, result)
    return TaskFailed(how, message, result)
