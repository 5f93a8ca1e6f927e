"""Objects of the scheduler to rows, and back. The column lists here are the order of every row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import asdict

from retirecluster.domain.devices import Presence, profile_from_register
from retirecluster.domain.lifecycle import State
from retirecluster.domain.requirements import Requirements
from retirecluster.domain.scheduler.picture import Attempt, Device, Task
from retirecluster.domain.scheduler.shelves import RequirementClass
from retirecluster.domain.scheduler.verifications import Copy, Verification
from retirecluster.domain.tasks import Options, TaskSpec, encode
from retirecluster.domain.trust import ledger_document, ledger_from

Row = tuple[Any, ...]

NEW_TASK_COLUMNS = (
    "seq, task_id, task_type, name, priority, state, epoch, charged, crashes, order_s, created_at, started_at, "
    "finished_at, deadline_at, not_before_at, reason, timeout_s, max_retries, delivery, on_disconnect, labels, "
    "requirements, retry_of, idempotency_key, request_digest, body, verify, forgiven, moves, submitted_by"
)
ATTEMPT_COLUMNS = (
    "task_seq, epoch, device_id, session_no, granted_at, started_at, finished_at, outcome, charged, reason, taken_back"
)
DEVICE_COLUMNS = (
    "device_id, session_no, presence, role_override, draining, cordoned, deaths, reason, first_seen_at, last_seen_at, "
    "completed, failed, register, trust_ledger, quarantine, probe_after_s, drain_until_at"
)
RESTORE_COLUMNS = (
    "seq, task_id, task_type, name, priority, state, epoch, charged, crashes, order_s, created_at, started_at, "
    "deadline_at, not_before_at, reason, timeout_s, max_retries, delivery, on_disconnect, verify, requirements, "
    "forgiven, moves"
)


def new_task_row(task: Task, spec: TaskSpec) -> Row:
    options = spec.options
    return (
        task.seq,
        task.task_id,
        task.task_type,
        task.name,
        task.priority,
        task.state.value,
        task.epoch,
        task.charged,
        task.crashes,
        task.order_s,
        task.created_at,
        task.started_at,
        task.finished_at,
        task.deadline_at,
        task.not_before_at,
        task.reason,
        options.timeout_s,
        options.max_retries,
        options.delivery,
        options.on_disconnect,
        spec.labels,
        spec.requirements_text,
        spec.retry_of,
        spec.idempotency_key,
        spec.request_digest,
        spec.body,
        options.verify,
        task.forgiven,
        task.moves,
        spec.submitted_by,
    )


def task_update(task: Task) -> Row:
    """What changes in a task's row, its seq last."""
    return (
        task.state.value,
        task.epoch,
        task.charged,
        task.crashes,
        task.started_at,
        task.finished_at,
        task.not_before_at,
        task.reason,
        task.forgiven,
        task.moves,
        task.seq,
    )


def attempt_row(attempt: Attempt) -> Row:
    return (
        attempt.task_seq,
        attempt.epoch,
        attempt.device_id,
        attempt.session_no,
        attempt.granted_at,
        attempt.started_at,
        attempt.finished_at,
        attempt.outcome,
        int(attempt.charged),
        attempt.reason,
        attempt.taken_back,
    )


def device_row(device: Device) -> Row:
    return (
        device.device_id,
        device.session_no,
        device.presence.value,
        device.role_override,
        int(device.draining),
        int(device.cordoned),
        encode(device.deaths),
        device.reason,
        device.first_seen_at,
        device.last_seen_at,
        device.completed,
        device.failed,
        encode(device.register),
        encode(ledger_document(device.ledger)),
        device.quarantine,
        device.probe_after_s,
        device.drain_until_at,
    )


def device_from_row(row: Row) -> Device:
    register = json.loads(row[12])
    profile = profile_from_register(row[0], register)
    return Device(
        device_id=row[0],
        profile=profile.with_role(row[3]) if row[3] else profile,
        session_no=row[1],
        presence=Presence(row[2]),
        role_override=row[3],
        draining=bool(row[4]),
        cordoned=bool(row[5]),
        deaths=json.loads(row[6]),
        reason=row[7],
        first_seen_at=row[8],
        last_seen_at=row[9],
        completed=row[10],
        failed=row[11],
        register=register,
        ledger=ledger_from(json.loads(row[13])),
        quarantine=row[14],
        probe_after_s=row[15],
        drain_until_at=row[16],
    )


def verification_row(verification: Verification) -> Row:
    copies = encode([asdict(each) for each in verification.copies])
    return (verification.task.seq, verification.state, verification.reason, copies)


def copies_from(text: str) -> list[Copy]:
    """The copies in a row of `verifications`."""
    return [Copy(**each) for each in json.loads(text)]


def attempt_from_row(row: Row) -> Attempt:
    return Attempt(
        task_seq=row[0],
        epoch=row[1],
        device_id=row[2],
        session_no=row[3],
        granted_at=row[4],
        granted_mono_s=0.0,
        renewed_mono_s=0.0,
        started_at=row[5],
        finished_at=row[6],
        outcome=row[7],
        charged=bool(row[8]),
        reason=row[9],
        taken_back=row[10],
    )


class TaskReader:
    """Makes tasks of rows; what many tasks share (options, requirement classes) is made once."""

    def __init__(self, class_for: Any) -> None:
        self._class_for = class_for
        self._options: dict[Row, Options] = {}
        self._classes: dict[Row, RequirementClass] = {}

    def read(self, row: Row) -> Task:
        """The task of a row of RESTORE_COLUMNS; its body stays in the store."""
        option_key = row[15:20]
        options = self._options.get(option_key)
        if options is None:
            options = self._options[option_key] = Options(*option_key)
        class_key = (row[20], row[2], options.at_most_once)
        queue = self._classes.get(class_key)
        if queue is None:
            document: Mapping[str, Any] = json.loads(row[20]) if row[20] else {}
            demand = Requirements.from_document(document)
            queue = self._classes[class_key] = self._class_for(demand, row[2], options.at_most_once)
        return Task(
            seq=row[0],
            task_id=row[1],
            task_type=row[2],
            name=row[3],
            priority=row[4],
            queue=queue,
            options=options,
            body=None,
            order_s=row[9],
            created_at=row[10],
            state=State(row[5]),
            epoch=row[6],
            charged=row[7],
            crashes=row[8],
            started_at=row[11],
            deadline_at=row[12],
            not_before_at=row[13],
            reason=row[14],
            forgiven=row[21],
            moves=row[22],
        )
