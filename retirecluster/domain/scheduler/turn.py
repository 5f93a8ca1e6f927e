"""What comes out of the scheduler: one `Turn` at a time.

A turn lists what must be on disk (objects whose rows changed, events) and the effects that may happen only
after that. The rows are projections of the objects, made when the transaction begins: however often a task
changed within a turn, it is written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from retirecluster.domain.audit import AuditEntry
from retirecluster.domain.scheduler.picture import Attempt, Device, Task
from retirecluster.domain.tasks import TaskSpec

if TYPE_CHECKING:
    from retirecluster.domain.scheduler.verifications import Verification


@frozen
class Event:
    """One line of the append-only log. `event_no` has no gaps. `subject` is `task` or `device`."""

    event_no: int
    at: float
    subject: str
    kind: str
    task_id: str | None
    device_id: str | None
    data: Mapping[str, Any]


@frozen
class Assign:
    """Send `task_assign` for this attempt."""

    device_id: str
    session_no: int
    task: Task
    attempt: Attempt


@frozen
class Stop:
    """Send `task_cancel` for this attempt."""

    device_id: str
    session_no: int
    task_id: str
    epoch: int
    reason: str


@frozen
class Result:
    """A result as it goes to disk. `document` is the checked data of `task_result`."""

    task_seq: int
    epoch: int
    document: Mapping[str, Any]


@frozen
class Refused:
    """A result that does not count, kept for people. `kind` is the code of the error; `epoch` as the device said it."""

    at: float
    task_id: str
    epoch: int | None
    device_id: str
    kind: str
    reason: str
    document: Mapping[str, Any]


@frozen
class Copied:
    """In the store, one task (by seq) gets something of another: what travels to the device, or its result."""

    task_seq: int
    from_seq: int


@define(eq=False)
class Turn:
    """What was decided since the last one."""

    new_tasks: list[tuple[Task, TaskSpec]] = field(factory=list)
    tasks: dict[int, Task] = field(factory=dict)
    attempts: dict[tuple[int, int], Attempt] = field(factory=dict)
    devices: dict[str, Device] = field(factory=dict)
    removed_devices: list[str] = field(factory=list)
    results: list[Result] = field(factory=list)
    events: list[Event] = field(factory=list)
    effects: list[Assign | Stop] = field(factory=list)
    ended: list[Task] = field(factory=list)
    refused: list[Refused] = field(factory=list)
    audited: list[AuditEntry] = field(factory=list)
    copied: list[Copied] = field(factory=list)
    """New tasks that travel as another one does, with its input files."""
    adopted: list[Copied] = field(factory=list)
    """Tasks whose result is that of another."""
    verifications: dict[int, Verification] = field(factory=dict)
    """By the seq of the verified task."""

    @property
    def empty(self) -> bool:
        return not (
            self.tasks
            or self.devices
            or self.events
            or self.effects
            or self.attempts
            or self.removed_devices
            or self.refused
            or self.audited
        )
