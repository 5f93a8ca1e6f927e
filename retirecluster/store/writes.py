"""The one transaction that puts a turn on disk."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from retirecluster.domain.audit import AuditEntry
from retirecluster.domain.audit_chain import COLUMNS, ChainWriter
from retirecluster.domain.scheduler.turn import Refused, Turn
from retirecluster.domain.tasks import encode
from retirecluster.store import rows
from retirecluster.store.files import PUT_INPUT, PUT_TASK_FILE, output_rows

_INSERT_TASK = f"INSERT INTO tasks ({rows.NEW_TASK_COLUMNS}) VALUES ({', '.join('?' * 30)})"
_UPDATE_TASK = (
    "UPDATE tasks SET state = ?, epoch = ?, charged = ?, crashes = ?, started_at = ?, finished_at = ?, "
    "not_before_at = ?, reason = ?, forgiven = ?, moves = ? WHERE seq = ?"
)
_PUT_ATTEMPT = f"INSERT OR REPLACE INTO attempts ({rows.ATTEMPT_COLUMNS}) VALUES ({', '.join('?' * 11)})"
_PUT_DEVICE = f"INSERT OR REPLACE INTO devices ({rows.DEVICE_COLUMNS}) VALUES ({', '.join('?' * 17)})"
_PUT_RESULT = "INSERT OR REPLACE INTO results (task_seq, epoch, document) VALUES (?, ?, ?)"
_INSERT_EVENT = (
    "INSERT INTO events (event_no, at, subject, kind, task_id, device_id, data) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_KEEP_REFUSED = (
    "INSERT INTO refused_results (at, task_id, epoch, device_id, kind, reason, document) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_AUDIT = f"INSERT INTO audit ({', '.join(COLUMNS)}, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_COPY_BODY = "UPDATE tasks SET body = (SELECT body FROM tasks WHERE seq = ?2) WHERE seq = ?1"
_COPY_INPUTS = (
    "INSERT INTO task_files (task_seq, epoch, direction, name, sha256, size_bytes, executable) "
    "SELECT ?1, epoch, direction, name, sha256, size_bytes, executable FROM task_files "
    "WHERE task_seq = ?2 AND direction = 'input'"
)
_ADOPT_RESULT = (
    "INSERT OR REPLACE INTO results (task_seq, epoch, document) "
    "SELECT ?1, epoch, document FROM results WHERE task_seq = ?2"
)
_ADOPT_OUTPUTS = (
    "INSERT OR REPLACE INTO task_files (task_seq, epoch, direction, name, sha256, size_bytes, executable) "
    "SELECT ?1, f.epoch, f.direction, f.name, f.sha256, f.size_bytes, f.executable FROM task_files f "
    "JOIN results r ON r.task_seq = f.task_seq AND r.epoch = f.epoch "
    "WHERE f.task_seq = ?2 AND f.direction = 'output'"
)
_PUT_VERIFICATION = "INSERT OR REPLACE INTO verifications (task_seq, state, reason, copies) VALUES (?, ?, ?, ?)"
_TRIM_REFUSED = "DELETE FROM refused_results WHERE refused_no <= (SELECT max(refused_no) FROM refused_results) - ?"
REFUSED_KEPT = 1000
"""Refused results that are kept: the newest."""
REFUSED_CHARS = 65_536
"""A longer document of a refused result is cut: whoever sends them may send many."""


@frozen
class WriteSet:
    """A turn as rows: a copy, so that the scheduler may go on while it is written."""

    new_tasks: list[rows.Row]
    tasks: list[rows.Row]
    attempts: list[rows.Row]
    devices: list[rows.Row]
    removed_devices: list[rows.Row]
    results: list[rows.Row]
    events: list[rows.Row]
    refused: list[rows.Row]
    audited: list[AuditEntry]
    running_s: float
    inputs: list[rows.Row]
    outputs: list[rows.Row]
    copied: list[rows.Row]
    adopted: list[rows.Row]
    verifications: list[rows.Row]

    @classmethod
    def of(cls, turn: Turn, running_s: float) -> WriteSet:
        """The rows of a turn as the objects stand now."""
        new = {task.seq for task, _ in turn.new_tasks}
        return cls(
            new_tasks=[rows.new_task_row(task, spec) for task, spec in turn.new_tasks],
            tasks=[rows.task_update(task) for task in turn.tasks.values() if task.seq not in new],
            attempts=[rows.attempt_row(attempt) for attempt in turn.attempts.values()],
            devices=[rows.device_row(device) for device in turn.devices.values()],
            removed_devices=[(device_id,) for device_id in turn.removed_devices],
            results=[(result.task_seq, result.epoch, encode(result.document)) for result in turn.results],
            events=[
                (each.event_no, each.at, each.subject, each.kind, each.task_id, each.device_id, encode(each.data))
                for each in turn.events
            ],
            refused=[_refused_row(each) for each in turn.refused],
            audited=list(turn.audited),
            running_s=running_s,
            inputs=[
                (task.seq, each.name, each.sha256, int(each.executable))
                for task, spec in turn.new_tasks
                for each in spec.inputs
            ],
            outputs=[
                row
                for each in turn.results
                for row in output_rows(each.task_seq, each.epoch, each.document.get("artifacts") or ())
            ],
            copied=[(each.task_seq, each.from_seq) for each in turn.copied],
            adopted=[(each.task_seq, each.from_seq) for each in turn.adopted],
            verifications=[rows.verification_row(each) for each in turn.verifications.values()],
        )

    def changed_tasks(self) -> frozenset[int]:
        """The seqs of the tasks of which anything that `reads` shows is changed."""
        return frozenset(
            [row[0] for many in (self.new_tasks, self.attempts, self.results, self.verifications) for row in many]
            + [row[-1] for row in self.tasks]
            + [row[0] for row in self.adopted]
        )


def _refused_row(each: Refused) -> rows.Row:
    text = encode(each.document)
    if len(text) > REFUSED_CHARS:
        text = encode({"cut_after_chars": REFUSED_CHARS, "text": text[:REFUSED_CHARS]})
    return (each.at, each.task_id, each.epoch, each.device_id, each.kind, each.reason, text)


def put_audit_txn(cursor: Any, *entries: AuditEntry) -> None:
    """Write down what a person does, within the transaction that does it. Each row is tied to the one before."""
    last_no, last_hash = cursor.execute("SELECT last_no, last_hash FROM audit_chain").fetchone()
    writer, added = ChainWriter(last_hash), list[rows.Row]()
    for number, each in enumerate(entries, last_no + 1):
        who = (each.actor, each.role, each.address, each.request_id)
        row = (number, float(each.at), *who, each.action, each.subject, encode(each.detail))
        added.append((*row, writer.add(*row)))
    cursor.executemany(_INSERT_AUDIT, added)
    cursor.execute("UPDATE audit_chain SET last_no = ?, last_hash = ?", (last_no + len(entries), writer.last_hash))


def write_txn(cursor: Any, writes: WriteSet) -> int:
    """Put a write set on disk; how many transactions the database has seen, this one included.

    The caller commits when this returns.
    """
    cursor.execute("BEGIN IMMEDIATE")
    for statement, many in (
        (_INSERT_TASK, writes.new_tasks),
        (_UPDATE_TASK, writes.tasks),
        (_PUT_ATTEMPT, writes.attempts),
        ("DELETE FROM devices WHERE device_id = ?", writes.removed_devices),
        (_PUT_DEVICE, writes.devices),
        (_PUT_RESULT, writes.results),
        (_INSERT_EVENT, writes.events),
        (_KEEP_REFUSED, writes.refused),
        (PUT_INPUT, writes.inputs),
        (PUT_TASK_FILE, writes.outputs),
        (_COPY_BODY, writes.copied),
        (_COPY_INPUTS, writes.copied),
        (_ADOPT_RESULT, writes.adopted),
        (_ADOPT_OUTPUTS, writes.adopted),
        (_PUT_VERIFICATION, writes.verifications),
    ):
        if many:
            cursor.executemany(statement, many)
    if writes.audited:
        put_audit_txn(cursor, *writes.audited)
    if writes.refused:
        cursor.execute(_TRIM_REFUSED, (REFUSED_KEPT,))
    cursor.execute("UPDATE cluster SET running_s = ?, commits = commits + 1", (writes.running_s,))
    commits: int = cursor.execute("SELECT commits FROM cluster").fetchone()[0]
    return commits
