"""What the doors read. What is read here is on disk: nobody is shown what a crash could take back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from retirecluster.domain.audit_chain import COLUMNS, BadRow, Chain, first_bad
from retirecluster.domain.tasks import PRIORITIES, encode
from retirecluster.store import rows

_LIST = "seq, task_id, task_type, name, priority, state, epoch, created_at, started_at, finished_at, reason, labels"
_ONE = (
    _LIST + ", charged, crashes, timeout_s, max_retries, delivery, on_disconnect, deadline_at, requirements, retry_of, "
    "verify, submitted_by"
)


@frozen
class TaskFilter:
    """Which tasks to list; empty fields do not filter. `before_seq`: older than that task."""

    states: Sequence[str] = ()
    task_type: str = ""
    device_id: str = ""
    label: tuple[str, str] | None = None
    before_seq: int | None = None
    limit: int = 100


def _document(row: rows.Row) -> dict[str, Any]:
    return {
        "seq": row[0],
        "task_id": row[1],
        "task_type": row[2],
        "name": row[3],
        "status": row[5],
        "priority": PRIORITIES[row[4]],
        "epoch": row[6],
        "created_at": row[7],
        "started_at": row[8],
        "finished_at": row[9],
        "reason": row[10],
        "labels": json.loads(row[11]) if row[11] else {},
    }


def tasks_txn(cursor: Any, wanted: TaskFilter) -> list[dict[str, Any]]:
    """Tasks, newest first, each with `device_id` of its last attempt (None before the first)."""
    conditions, values = _conditions(wanted)
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    columns = ", ".join(f"t.{name}" for name in _LIST.split(", "))
    cursor.execute(
        f"SELECT {columns}, a.device_id, v.state, v.copies FROM tasks t "
        "LEFT JOIN attempts a ON a.task_seq = t.seq AND a.epoch = t.epoch "
        f"LEFT JOIN verifications v ON v.task_seq = t.seq {where} ORDER BY t.seq DESC LIMIT ?",
        (*values, wanted.limit),
    )
    return [_document(row) | {"device_id": _listed_device(*row[5:6], *row[12:])} for row in cursor.fetchall()]


def _listed_device(task_state: str, last_device_id: str | None, state: str | None, copies: str | None) -> str | None:
    """As `task_txn` has it: for a verified task that of the copy whose result counts."""
    if state is None or copies is None:
        return _device_of(task_state, last_device_id)
    return _device_that_counts(state, json.loads(copies))


def _device_of(state: str, last_device_id: str | None) -> str | None:
    return None if state in ("blocked", "queued", "retrying", "held") else last_device_id


def _conditions(wanted: TaskFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    if wanted.states:
        conditions.append(f"t.state IN ({', '.join('?' * len(wanted.states))})")
        values += wanted.states
    if wanted.task_type:
        conditions.append("t.task_type = ?")
        values.append(wanted.task_type)
    if wanted.device_id:
        conditions.append("t.seq IN (SELECT task_seq FROM attempts WHERE device_id = ?)")
        values.append(wanted.device_id)
    if wanted.label is not None:
        conditions.append("t.labels != '' AND json_extract(t.labels, ?) = ?")
        values += [f'$."{wanted.label[0]}"', wanted.label[1]]
    if wanted.before_seq is not None:
        conditions.append("t.seq < ?")
        values.append(wanted.before_seq)
    return conditions, values


def task_txn(cursor: Any, task_id: str) -> dict[str, Any] | None:
    """One task with its attempts and a summary of its result, or None."""
    row = cursor.execute(f"SELECT {_ONE} FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
    if row is None:
        return None
    attempts = _attempts(cursor, row[0])
    document = _document(row) | {
        "charged": row[12],
        "crashes": row[13],
        "timeout": row[14],
        "max_retries": row[15],
        "delivery": row[16],
        "on_disconnect": row[17],
        "deadline_at": row[18],
        "requirements": json.loads(row[19]) if row[19] else {},
        "retry_of": row[20],
        "verify": row[21],
        "submitted_by": row[22],
        "attempts": attempts,
        "device_id": _device_of(row[5], attempts[-1]["device_id"] if attempts else None),
        "result": _summary(cursor, row[0]),
    }
    return document if row[21] == 1 else document | _verification(cursor, row[0])


def _verification(cursor: Any, task_seq: int) -> dict[str, Any]:
    """What became of a verified task's copies; its device is that of the copy whose result counts."""
    state, reason, text = cursor.execute(
        "SELECT state, reason, copies FROM verifications WHERE task_seq = ?", (task_seq,)
    ).fetchone()
    copies = [{name: value or None for name, value in each.items() if name != "seq"} for each in json.loads(text)]
    return {
        "verified": state == "agreed",
        "verification": {"state": state, "reason": reason, "copies": copies},
        "device_id": _device_that_counts(state, copies),
    }


def _device_that_counts(state: str, copies: list[dict[str, Any]]) -> str | None:
    return _right_device(copies) if state in ("agreed", "impossible") else None


def _right_device(copies: list[dict[str, Any]]) -> str | None:
    """The device of the first copy that gave what most gave."""
    counts = Counter(each["sha256"] for each in copies if each["sha256"])
    if not counts:
        return None
    digest = counts.most_common(1)[0][0]
    return next(each["device_id"] for each in copies if each["sha256"] == digest)


def _summary(cursor: Any, task_seq: int) -> dict[str, Any] | None:
    """The last result in short; None without one."""
    row = cursor.execute("SELECT epoch, document FROM results WHERE task_seq = ?", (task_seq,)).fetchone()
    if row is None:
        return None
    document = json.loads(row[1])
    result = document.get("result") or {}
    output = result.get("output")
    return {
        "epoch": row[0],
        "status": document["status"],
        "exit_code": result.get("exit_code"),
        "execution_time": document.get("execution_time"),
        "output_chars": len(output) if isinstance(output, str) else None,
        "truncated": result.get("truncated") or False,
    }


def _attempts(cursor: Any, task_seq: int) -> list[dict[str, Any]]:
    cursor.execute(f"SELECT {rows.ATTEMPT_COLUMNS} FROM attempts WHERE task_seq = ? ORDER BY epoch", (task_seq,))
    return [
        {
            "epoch": row[1],
            "device_id": row[2],
            "granted_at": row[4],
            "started_at": row[5],
            "finished_at": row[6],
            "outcome": row[7],
            "charged": bool(row[8]),
            "reason": row[9],
        }
        for row in cursor.fetchall()
    ]


def result_txn(cursor: Any, task_id: str) -> tuple[str, str, int | None, dict[str, Any] | None] | None:
    """(state, reason, epoch of the result, its document) of a task; the last two None without a result."""
    row = cursor.execute(
        "SELECT t.state, t.reason, r.epoch, r.document FROM tasks t LEFT JOIN results r ON r.task_seq = t.seq "
        "WHERE t.task_id = ?",
        (task_id,),
    ).fetchone()
    if row is None:
        return None
    return row[0], row[1], row[2], json.loads(row[3]) if row[3] is not None else None


def results_txn(
    cursor: Any, task_ids: Sequence[str], max_bytes: int
) -> list[tuple[str, str, str, int | None, dict[str, Any] | None] | None]:
    """(id, state, reason, epoch of the result, its document) of each task, None for those that do not exist.

    Ends early, after the one with which the documents have more than `max_bytes`.
    """
    found: list[tuple[str, str, str, int | None, dict[str, Any] | None] | None] = []
    for task_id in task_ids:
        row = cursor.execute(
            "SELECT t.task_id, t.state, t.reason, r.epoch, r.document FROM tasks t "
            "LEFT JOIN results r ON r.task_seq = t.seq WHERE t.task_id = ?",
            (task_id,),
        ).fetchone()
        if row is None:
            found.append(None)
            continue
        text = row[4]
        found.append((*row[:4], json.loads(text) if text is not None else None))
        max_bytes -= len(text or "")
        if max_bytes < 0:
            break
    return found


def ids_with_prefix_txn(cursor: Any, prefix: str, limit: int) -> list[str]:
    """Ids of tasks that begin with `prefix`, at most `limit`."""
    cursor.execute(
        "SELECT task_id FROM tasks WHERE task_id >= ? AND task_id < ? ORDER BY task_id LIMIT ?",
        (prefix, prefix + "\U0010ffff", limit),
    )
    return [row[0] for row in cursor.fetchall()]


def bodies_txn(cursor: Any, seqs: Sequence[int]) -> dict[int, str]:
    """What travels to the device, by task seq."""
    cursor.execute(f"SELECT seq, body FROM tasks WHERE seq IN ({', '.join('?' * len(seqs))})", tuple(seqs))
    return dict(cursor.fetchall())


def resubmission_txn(cursor: Any, task_id: str) -> tuple[str, dict[str, Any]] | None:
    """(state, task document) of a task that is to be submitted again, its idempotency key left out."""
    row = cursor.execute(
        "SELECT state, body, deadline_at - created_at, max_retries, verify FROM tasks WHERE task_id = ?", (task_id,)
    ).fetchone()
    if row is None:
        return None
    document = json.loads(row[1]) | {"deadline_s": row[2], "max_retries": row[3]}
    if row[4] > 1:
        document["verify"] = row[4]
    document.pop("submitter", None)  # whoever submits it now
    return row[0], document


def result_text(document: Mapping[str, Any]) -> str:
    """A result as it is stored, to compare with what `ended_attempt_txn` gives."""
    return encode(document)


def by_key_txn(cursor: Any, keys: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Of tasks submitted with one of these idempotency keys: key to (task_id, request digest)."""
    found = {}
    for key in keys:
        row = cursor.execute("SELECT task_id, request_digest FROM tasks WHERE idempotency_key = ?", (key,)).fetchone()
        if row is not None:
            found[key] = (row[0], row[1])
    return found


def ended_attempt_txn(
    cursor: Any, task_id: str, epoch: int | None
) -> tuple[str | None, str | None, int, int | None, str | None] | None:
    """What is known of an attempt that is not current: (device, outcome, epoch, epoch of the result, result).

    Without an epoch, the task's last attempt. None if there is no such task.
    """
    row = cursor.execute("SELECT seq, epoch FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
    if row is None:
        return None
    seq, wanted = row[0], row[1] if epoch is None else epoch
    attempt = cursor.execute(
        "SELECT device_id, outcome FROM attempts WHERE task_seq = ? AND epoch = ?", (seq, wanted)
    ).fetchone()
    result = cursor.execute("SELECT epoch, document FROM results WHERE task_seq = ?", (seq,)).fetchone()
    device_id, outcome = attempt or (None, None)
    return (device_id, outcome, wanted, *(result or (None, None)))


def events_txn(cursor: Any, after_no: int, subject: str, limit: int) -> list[rows.Row]:
    """(event_no, at, subject, kind, task_id, device_id, data as JSON text) after an event, oldest first."""
    condition = "AND subject = ?" if subject else ""
    cursor.execute(
        f"SELECT event_no, at, subject, kind, task_id, device_id, data FROM events WHERE event_no > ? {condition} "
        "ORDER BY event_no LIMIT ?",
        (after_no, subject, limit) if subject else (after_no, limit),
    )
    rows_found: list[rows.Row] = cursor.fetchall()
    return rows_found


def refused_results_txn(cursor: Any, task_id: str, limit: int) -> list[dict[str, Any]] | None:
    """Results of a task that did not count, newest first; `result` is what the device sent, `at` Unix seconds.

    None if there is no such task and never was a result for it: a device may send one for a task that nobody knows.
    """
    cursor.execute(
        "SELECT at, epoch, device_id, kind, reason, document FROM refused_results WHERE task_id = ? "
        "ORDER BY refused_no DESC LIMIT ?",
        (task_id, limit),
    )
    names = ("at", "epoch", "device_id", "kind", "reason")
    found = [dict(zip(names, row, strict=False)) | {"result": json.loads(row[5])} for row in cursor.fetchall()]
    if not found and cursor.execute("SELECT 1 FROM tasks WHERE task_id = ?", (task_id,)).fetchone() is None:
        return None
    return found


AUDIT_NAMES = ("audit_no", "at", "actor", "action", "subject", "role", "address", "request_id", "hash")


def audit_txn(cursor: Any, before_no: int | None, actor: str, action: str, limit: int) -> list[dict[str, Any]]:
    """Rows of the audit trail, newest first: those before a number; of one actor, one action, where given."""
    conditions, values = ["1"], list[Any]()
    for condition, value in (("audit_no < ?", before_no), ("actor = ?", actor), ("action = ?", action)):
        if value not in (None, ""):
            conditions.append(condition)
            values.append(value)
    cursor.execute(
        f"SELECT {', '.join((*AUDIT_NAMES, 'detail'))} FROM audit WHERE {' AND '.join(conditions)} "
        "ORDER BY audit_no DESC LIMIT ?",
        (*values, limit),
    )
    return [dict(zip(AUDIT_NAMES, row, strict=False)) | {"detail": json.loads(row[-1])} for row in cursor.fetchall()]


def audit_state_txn(cursor: Any) -> tuple[Chain, BadRow | None]:
    """The ends of the audit trail, and the first row of it that is not as it was written."""
    cursor.execute("BEGIN")  # all of it as of one moment
    try:
        chain = Chain(*cursor.execute("SELECT first_no, first_hash, last_no, last_hash FROM audit_chain").fetchone())
        rows = cursor.execute(f"SELECT {', '.join(COLUMNS)}, hash FROM audit ORDER BY audit_no")
        return chain, first_bad(chain, ((row[:-1], row[-1]) for row in rows))
    finally:
        cursor.execute("COMMIT")


def first_event_no_txn(cursor: Any) -> int:
    """The oldest event that is still kept; 1 if there is none."""
    row = cursor.execute("SELECT min(event_no) FROM events").fetchone()
    return row[0] or 1


def status_counts_txn(cursor: Any) -> dict[str, int]:
    """How many tasks are in each state, final ones included."""
    cursor.execute("SELECT state, count(*) FROM tasks GROUP BY state")
    return dict(cursor.fetchall())


def type_statistics_txn(cursor: Any) -> list[dict[str, Any]]:
    """Per task type: how many in all, ended well, ended badly, and the mean seconds from start to end."""
    cursor.execute(
        "SELECT task_type, count(*), sum(state = 'completed'), sum(state IN ('failed', 'expired', 'lost')), "
        "avg(CASE WHEN state = 'completed' THEN finished_at - started_at END) FROM tasks GROUP BY task_type "
        "ORDER BY task_type"
    )
    names = ("task_type", "total", "completed", "failed", "mean_run_s")
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
