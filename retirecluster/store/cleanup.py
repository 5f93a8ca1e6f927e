"""What is forgotten after a while: tasks that ended long ago, old events, old refused results, old audit rows.

Each call removes at most BATCH_ROWS rows in one short transaction, so that turns are never kept waiting for long.

Pages that become free are used again for what comes next, so that the file stops growing once the oldest tasks are
as old as they may get. It does not shrink: `auto_vacuum` would cost every write for a day that may never come.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from attrs import frozen

from retirecluster.domain.lifecycle import FINAL, State

BATCH_ROWS = 500
_FINAL = ", ".join(f"'{state}'" for state in sorted(FINAL))
_OLDEST_ENDED = (
    "SELECT t.seq, t.state, 1 + (SELECT count(*) FROM attempts a WHERE a.task_seq = t.seq) "
    "+ EXISTS (SELECT 1 FROM results r WHERE r.task_seq = t.seq) "
    "+ (SELECT count(*) FROM task_files f WHERE f.task_seq = t.seq) "
    "+ (t.verify > 1) FROM tasks t "
    f"WHERE t.finished_at IS NOT NULL AND t.finished_at < ? AND t.state IN ({_FINAL}) ORDER BY t.finished_at LIMIT ?"
)


@frozen
class Forgotten:
    """What one batch removed: tasks by state, and rows in all. `more`: there is probably more of it."""

    tasks: dict[State, int]
    rows: int
    more: bool


def forget_tasks_txn(cursor: Any, ended_before_at: float, batch_rows: int = BATCH_ROWS) -> Forgotten:
    """Remove the tasks that ended first, before that instant (Unix seconds), with their attempts and results.

    What they call their files goes, too; contents that no task names any more are `files.unwanted_files_txn`. Tasks
    that have not ended are never touched. The idempotency key of a task goes with it.
    """
    cursor.execute("BEGIN IMMEDIATE")
    chosen: list[int] = []
    states: Counter[State] = Counter()
    rows = 0
    candidates = cursor.execute(_OLDEST_ENDED, (ended_before_at, batch_rows)).fetchall()
    for seq, state, size in candidates:
        if chosen and rows + size > batch_rows:
            break
        chosen.append(seq)
        states[State(state)] += 1
        rows += size
    marks = ", ".join("?" * len(chosen))
    for table in ("task_files", "results", "attempts", "verifications", "tasks"):
        column = "seq" if table == "tasks" else "task_seq"
        cursor.execute(f"DELETE FROM {table} WHERE {column} IN ({marks})", chosen)
    return Forgotten(dict(states), rows, len(chosen) < len(candidates) or len(candidates) == batch_rows)


def forget_events_txn(cursor: Any, keep: int, batch_rows: int = BATCH_ROWS) -> Forgotten:
    """Remove the oldest events beyond the newest `keep`, of which there must be one: numbers go on from it."""
    cursor.execute("BEGIN IMMEDIATE")
    last = cursor.execute("SELECT max(event_no) FROM events").fetchone()[0] or 0
    return _from_the_front(cursor, "events", "event_no", "event_no <= ?", last - max(keep, 1), batch_rows)


def forget_refused_txn(cursor: Any, before_at: float, batch_rows: int = BATCH_ROWS) -> Forgotten:
    """Remove refused results that came before that instant (Unix seconds)."""
    cursor.execute("BEGIN IMMEDIATE")
    return _from_the_front(cursor, "refused_results", "refused_no", "at < ?", before_at, batch_rows)


def forget_audit_txn(cursor: Any, keep: int, batch_rows: int = BATCH_ROWS) -> Forgotten:
    """Remove the oldest rows of the audit trail beyond the newest `keep`."""
    cursor.execute("BEGIN IMMEDIATE")
    first, last = cursor.execute("SELECT first_no, last_no FROM audit_chain").fetchone()
    until = min(last - max(keep, 1), first + batch_rows)
    if until <= first:
        return Forgotten({}, 0, False)
    # The chain begins anew behind them: without the hash of the last of them the first that stays means nothing.
    cursor.execute(
        "UPDATE audit_chain SET first_no = ?1, first_hash = (SELECT hash FROM audit WHERE audit_no = ?1)", (until,)
    )
    cursor.execute("DELETE FROM audit WHERE audit_no <= ?", (until,))
    return Forgotten({}, cursor.rowcount, until - first == batch_rows)


def _from_the_front(cursor: Any, table: str, key: str, condition: str, value: float, batch_rows: int) -> Forgotten:
    cursor.execute(
        f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} WHERE {condition} ORDER BY {key} LIMIT ?)",
        (value, batch_rows),
    )
    return Forgotten({}, cursor.rowcount, cursor.rowcount == batch_rows)


def advance_retention_txn(cursor: Any, wall_s: float, ran_s: float) -> float:
    """Move the clock of retention on by at most `ran_s` seconds, and never past the wall clock; what it says now."""
    known = cursor.execute("SELECT retention_at FROM cluster").fetchone()[0]
    now_at = wall_s if known is None else min(wall_s, known + ran_s)
    cursor.execute("UPDATE cluster SET retention_at = ?", (now_at,))
    return float(now_at)
