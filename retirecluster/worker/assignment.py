"""An attempt as it came from the main, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen

from retirecluster.domain.errors import invalid
from retirecluster.domain.fields import AnyObject, Field, Number, Record, Text
from retirecluster.domain.task_types import TYPE_NAME, payload_problems
from retirecluster.domain.tasks import AT_LEAST_ONCE, AT_MOST_ONCE, DEFAULT_TIMEOUT_S, KEEP, STOP
from retirecluster.wire.messages import EPOCH, TASK_ID
from retirecluster.worker.journal import Key

ASSIGNED_TASK = Record(
    (
        Field("task_id", TASK_ID, required=True),
        Field("epoch", EPOCH, "left out: 1", nullable=True),
        Field("task_type", TYPE_NAME, required=True),
        Field("payload", AnyObject(), nullable=True),
        Field("timeout", Number(0.001, 30 * 86_400), "seconds", nullable=True),
        Field("delivery", Text(choices=(AT_LEAST_ONCE, AT_MOST_ONCE)), nullable=True),
        Field("on_disconnect", Text(choices=(KEEP, STOP)), nullable=True),
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

    @property
    def key(self) -> Key:
        return self.task_id, self.epoch

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
    )


def payload_errors(assignment: Assignment) -> str:
    """What is wrong with the payload of a built-in type, in one line; empty if nothing is."""
    return "; ".join(map(str, payload_problems(assignment.task_type, assignment.payload)[:5]))
