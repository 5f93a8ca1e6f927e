"""An attempt as it came from the main, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from retirecluster.domain.errors import invalid
from retirecluster.domain.fields import AnyObject, Boolean, Field, Integer, Number, Record, Text
from retirecluster.domain.files import FILE_FIELDS, file_problems, inputs_of
from retirecluster.domain.limits import LIMIT_FIELDS
from retirecluster.domain.task_types import TYPE_NAME, payload_problems
from retirecluster.domain.tasks import ADMIN, AT_LEAST_ONCE, AT_MOST_ONCE, DEFAULT_TIMEOUT_S, FRESH, KEEP, STOP, WARM
from retirecluster.wire.messages import EPOCH, TASK_ID
from retirecluster.worker.journal import Key

MAX_VARIABLE_BYTES = 65_536
"""Half of what Linux takes for one environment variable."""
ASSIGNED_TASK = Record(
    (
        Field("task_id", TASK_ID, required=True),
        Field("epoch", EPOCH, "left out: 1", nullable=True),
        Field("task_type", TYPE_NAME, required=True),
        Field("payload", AnyObject(), nullable=True),
        Field("timeout", Number(0.001, 30 * 86_400), "seconds", nullable=True),
        Field("delivery", Text(choices=(AT_LEAST_ONCE, AT_MOST_ONCE)), nullable=True),
        Field("on_disconnect", Text(choices=(KEEP, STOP)), nullable=True),
        Field("requirements", Record((Field("isolation", Integer(0, 3), nullable=True),)), nullable=True),
        Field("limits", LIMIT_FIELDS, nullable=True),
        Field("grace_s", Number(0, 3600), nullable=True),
        Field("mode", Text(choices=(FRESH, WARM)), nullable=True),
        Field("submitter", Text(256, 1), "whose warm tasks share a process", nullable=True),
        Field("checkpoint", Boolean(), nullable=True),
        Field("files", FILE_FIELDS, nullable=True),
    )
)


@frozen
class Assignment:
    """One attempt that this worker was given. `timeout_s` counts from the start of its process."""

    task_id: str
    epoch: int
    task_type: str
    payload: dict[str, Any]
    timeout_s: float = DEFAULT_TIMEOUT_S
    at_most_once: bool = False
    stops_alone: bool = False
    isolation: int = 0
    """The level that it demands; it runs at this one or a stronger one."""
    limits: Mapping[str, float] = {}
    """What it asks for; see `domain.limits`."""
    grace_s: float | None = None
    warm_for: str | None = None
    """The submitter with whose tasks it shares a process; None for a process of its own."""
    checkpoint: bool = False
    files: Mapping[str, Any] = {}
    """The files that it brings and leaves; see `domain.files`."""
    folder: str | None = None
    """A folder that was made for it, which the runner uses in place of one of its own, and leaves alone."""

    @property
    def key(self) -> Key:
        return self.task_id, self.epoch

    @property
    def file_variables(self) -> dict[str, str]:
        """What its environment says of its inputs: their names in its folder, one a line."""
        names = "\n".join(each.name for each in inputs_of(self.files))
        # A variable that the system would not take keeps no program from starting.
        return {"RETIRE_INPUTS": names} if names and len(names.encode()) <= MAX_VARIABLE_BYTES else {}

    def __str__(self) -> str:
        return f"{self.task_id}/{self.epoch}"


def read_assignment(task: Mapping[str, Any]) -> Assignment:
    """The attempt in `task_assign`. Raises ClusterError for an envelope that is wrong; see `payload_errors`."""
    problems = ASSIGNED_TASK.problems(task, "task")
    if problems:
        raise invalid(problems)
    return Assignment(
        task_id=task["task_id"],
        epoch=task.get("epoch") or 1,
        task_type=task["task_type"],
        payload=task.get("payload") or {},
        timeout_s=float(task.get("timeout") or DEFAULT_TIMEOUT_S),
        at_most_once=task.get("delivery") == AT_MOST_ONCE,
        stops_alone=task.get("on_disconnect") == STOP,
        isolation=(task.get("requirements") or {}).get("isolation") or 0,
        limits=task.get("limits") or {},
        grace_s=task.get("grace_s"),
        warm_for=(task.get("submitter") or ADMIN) if task.get("mode") == WARM else None,
        checkpoint=bool(task.get("checkpoint")),
        files=read_files(task),
    )


def read_files(task: Mapping[str, Any]) -> Mapping[str, Any]:
    """The files of a task, if there are any. Raises ClusterError for names that are none: the main checks them, too."""
    files = task.get("files") or {}
    if problems := file_problems(files, "task.files"):
        raise invalid(problems)
    return files if files.get("inputs") or files.get("outputs") else {}


def payload_errors(assignment: Assignment) -> str:
    """What is wrong with the payload of a built-in type, in one line; empty if nothing is."""
    return "; ".join(map(str, payload_problems(assignment.task_type, assignment.payload)[:5]))
