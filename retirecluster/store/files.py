"""The tables of files: which contents there are, and what tasks call them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from retirecluster.store.rows import Row

INPUT, OUTPUT = "input", "output"
_MARKS_AT_ONCE = 500
PUT_TASK_FILE = (
    "INSERT OR REPLACE INTO task_files (task_seq, epoch, direction, name, sha256, size_bytes, executable) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
PUT_INPUT = (
    "INSERT INTO task_files (task_seq, epoch, direction, name, sha256, size_bytes, executable) "
    "VALUES (?1, 0, 'input', ?2, ?3, coalesce((SELECT size_bytes FROM files WHERE sha256 = ?3), 0), ?4)"
)


@frozen
class TaskFile:
    """A file of a task. `epoch` is 0 for inputs; `present` says whether the content is there."""

    direction: str
    epoch: int
    name: str
    sha256: str
    size_bytes: int
    executable: bool
    present: bool


@frozen
class StoredFile:
    """A content that is complete. Instants are Unix seconds; `named` says that a task names it."""

    sha256: str
    size_bytes: int
    created_at: float
    used_at: float
    named: bool


def output_rows(task_seq: int, epoch: int, artifacts: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Rows for `PUT_TASK_FILE` of the checked artifacts of a result."""
    return [(task_seq, epoch, OUTPUT, each["name"], each["sha256"], each["size_bytes"], 0) for each in artifacts]


def put_file_txn(cursor: Any, sha256: str, size_bytes: int, now_at: float) -> None:
    """Note a content that is complete on the disk, wanted just now."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute(
        "INSERT INTO files (sha256, size_bytes, created_at, used_at) VALUES (?, ?, ?, ?) "
        "ON CONFLICT (sha256) DO UPDATE SET used_at = excluded.used_at",
        (sha256, size_bytes, now_at, now_at),
    )


def want_files_txn(cursor: Any, digests: Sequence[str], now_at: float) -> dict[str, int]:
    """Of these contents, those that are complete, with their sizes in bytes; they stay for a while from now on."""
    cursor.execute("BEGIN IMMEDIATE")
    found: dict[str, int] = {}
    for part in _parts(digests):
        marks = ", ".join("?" * len(part))
        cursor.execute(f"UPDATE files SET used_at = ? WHERE sha256 IN ({marks})", (now_at, *part))
        cursor.execute(f"SELECT sha256, size_bytes FROM files WHERE sha256 IN ({marks})", tuple(part))
        found.update(cursor.fetchall())
    return found


def file_txn(cursor: Any, sha256: str) -> StoredFile | None:
    """One content, if it is complete."""
    row = cursor.execute(f"{_STORED} WHERE f.sha256 = ?", (sha256,)).fetchone()
    return _stored(row) if row is not None else None


_STORED = (
    "SELECT f.sha256, f.size_bytes, f.created_at, f.used_at, "
    "EXISTS (SELECT 1 FROM task_files t WHERE t.sha256 = f.sha256) FROM files f"
)


def files_txn(cursor: Any, after: str, limit: int) -> list[StoredFile]:
    """Contents in the order of their digests, from the one after `after` on."""
    cursor.execute(f"{_STORED} WHERE f.sha256 > ? ORDER BY f.sha256 LIMIT ?", (after, limit))
    return [_stored(row) for row in cursor.fetchall()]


def _stored(row: Row) -> StoredFile:
    return StoredFile(row[0], row[1], row[2], row[3], bool(row[4]))


def task_files_txn(cursor: Any, task_id: str) -> list[TaskFile] | None:
    """The files of a task: inputs, then outputs attempt by attempt; None if there is no such task."""
    found = cursor.execute("SELECT seq FROM tasks WHERE task_id = ?", (task_id,)).fetchone()
    if found is None:
        return None
    cursor.execute(
        "SELECT t.direction, t.epoch, t.name, t.sha256, t.size_bytes, t.executable, f.sha256 IS NOT NULL "
        "FROM task_files t LEFT JOIN files f ON f.sha256 = t.sha256 WHERE t.task_seq = ? "
        "ORDER BY t.direction, t.epoch, t.name",
        (found[0],),
    )
    return [
        TaskFile(each[0], each[1], each[2], each[3], each[4], bool(each[5]), bool(each[6]))
        for each in cursor.fetchall()
    ]


def is_input_txn(cursor: Any, sha256: str, task_seqs: Sequence[int]) -> bool:
    """Whether a content is an input of one of these tasks."""
    for part in _parts(task_seqs):
        marks = ", ".join("?" * len(part))
        cursor.execute(
            f"SELECT 1 FROM task_files WHERE sha256 = ? AND direction = 'input' AND task_seq IN ({marks}) LIMIT 1",
            (sha256, *part),
        )
        if cursor.fetchone() is not None:
            return True
    return False


def unwanted_files_txn(cursor: Any, before_at: float, limit: int) -> list[str]:
    """Contents that no kept task names and that nobody has wanted since an instant (Unix seconds)."""
    cursor.execute(
        "SELECT f.sha256 FROM files f WHERE f.used_at < ? "
        "AND NOT EXISTS (SELECT 1 FROM task_files t WHERE t.sha256 = f.sha256) ORDER BY f.used_at LIMIT ?",
        (before_at, limit),
    )
    return [row[0] for row in cursor.fetchall()]


def forget_file_txn(cursor: Any, sha256: str, before_at: float) -> bool:
    """Remove the row of a content that no kept task names, if nobody wanted it since; whether it was removed."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute(
        "DELETE FROM files WHERE sha256 = ? AND used_at < ? "
        "AND NOT EXISTS (SELECT 1 FROM task_files t WHERE t.sha256 = files.sha256)",
        (sha256, before_at),
    )
    return bool(cursor.rowcount)


def all_sizes_txn(cursor: Any) -> dict[str, int]:
    """Every content with its size in bytes."""
    return dict(cursor.execute("SELECT sha256, size_bytes FROM files").fetchall())


def reconcile_txn(cursor: Any, lost: Sequence[str], found: Mapping[str, int], now_at: float) -> None:
    """Make the rows say what is on the disk: contents that are `lost`, and those `found` there without a row."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.executemany("DELETE FROM files WHERE sha256 = ?", [(each,) for each in lost])
    cursor.executemany(
        "INSERT INTO files (sha256, size_bytes, created_at, used_at) VALUES (?, ?, ?, ?)",
        [(sha256, size, now_at, now_at) for sha256, size in found.items()],
    )


def _parts(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Pieces of a long list: SQLite binds so many values at most."""
    return (values[start : start + _MARKS_AT_ONCE] for start in range(0, len(values), _MARKS_AT_ONCE))
