"""Who ran what when: the attempts of a stretch of time, for pictures of it. Found by indexes, up to a limit."""

from __future__ import annotations

from typing import Any

_COLUMNS = {
    "task_id": "t.task_id",
    "name": "t.name",
    "task_type": "t.task_type",
    "status": "t.state",
    "epoch": "a.epoch",
    "device_id": "a.device_id",
    "granted_at": "a.granted_at",
    "started_at": "a.started_at",
    "finished_at": "a.finished_at",
    "outcome": "a.outcome",
}
_SELECT = f"SELECT {', '.join(_COLUMNS.values())} FROM"
_LASTING = "(a.finished_at IS NULL OR a.finished_at >= ?)"
_OF_LIVE_TASKS = (
    f"{_SELECT} (SELECT * FROM tasks WHERE state IN ('assigned', 'running', 'cancelling', 'retrying', 'held') "
    f"ORDER BY seq DESC LIMIT ?) t JOIN attempts a ON a.task_seq = t.seq WHERE {_LASTING}"
)
_OF_ENDED_TASKS = (
    f"{_SELECT} (SELECT * FROM tasks WHERE finished_at >= ? ORDER BY finished_at DESC LIMIT ?) t "
    f"JOIN attempts a ON a.task_seq = t.seq WHERE {_LASTING}"
)
_OF_DEVICE = (
    f"{_SELECT} (SELECT * FROM attempts WHERE device_id = ? ORDER BY task_seq DESC LIMIT ?) a "
    f"JOIN tasks t ON t.seq = a.task_seq WHERE {_LASTING}"
)


def attempts_txn(cursor: Any, since_at: float, device_id: str, limit: int) -> list[dict[str, Any]]:
    """Attempts that had not ended by `since_at` (Unix seconds), those granted last first, at most `limit`.

    Without a device: of tasks that run or wait for their next attempt, and of those that ended since. A task that is
    in the queue once more is left out until it runs again; else a long queue would be read. With one: of the tasks that
    it was given last.
    """
    if device_id:
        found = _rows(cursor, _OF_DEVICE, device_id, limit, since_at)
    else:
        found = _rows(cursor, _OF_LIVE_TASKS, limit, since_at)
        found += _rows(cursor, _OF_ENDED_TASKS, since_at, limit, since_at)
    found.sort(key=lambda each: (-each["granted_at"], each["task_id"], each["epoch"]))
    return found[:limit]


def _rows(cursor: Any, query: str, *values: Any) -> list[dict[str, Any]]:
    cursor.execute(query, values)
    return [dict(zip(_COLUMNS, row, strict=True)) for row in cursor.fetchall()]
