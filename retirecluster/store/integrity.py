"""Whether a file is a sound database of ours. It is opened for reading alone: whatever it is, it stays as it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

from attrs import frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.store import migrations

FULL_CHECK_BYTES = 256 * 1024 * 1024
"""A larger database is not read as a whole at each start: about 1 s on a laptop, 10 s on an SD card."""
_SMALL_TABLES = ("cluster", "devices")
_EDGES = (
    "SELECT max(seq) FROM tasks",
    "SELECT max(event_no) FROM events",
    "SELECT max(task_seq) FROM attempts",
    "SELECT max(task_seq) FROM results",
    "SELECT count(*) FROM tasks WHERE state IN ('assigned', 'running', 'cancelling')",
)


@frozen
class Found:
    """What a sound database says of itself. `commits` is 0 before schema 2."""

    cluster_id: str
    incarnation: int
    version: int
    commits: int


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that cannot change the database, whoever else has it open."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    connection.isolation_level = None
    return connection


def check_file(path: Path, way_back: str, *, thorough: bool = False) -> Found | None:
    """Read the database at `path` and tell what it is; None for one that holds no cluster yet.

    Below FULL_CHECK_BYTES every page is looked at (`PRAGMA quick_check`); beyond that the header, the schema, the
    small tables, and the edges of the large ones. `thorough`: every page whatever the size, and every index against
    its table (`PRAGMA integrity_check`).

    Raises ClusterError bad_config in one line, with the file, what is wrong, and `way_back`.
    """
    try:
        if path.stat().st_size == 0:
            raise _unfit(path, "is empty", way_back)
        _check_length(path, way_back)
        connection = open_for_reading(path)
        try:
            return _check(connection, path, way_back, thorough)
        finally:
            connection.close()
    except (sqlite3.Error, UnicodeError) as error:  # the latter where SQLite's message quotes damaged text
        raise _unfit(path, f"is damaged, or no database: {one_line(error)}", way_back) from None
    except OSError as error:
        raise _unfit(path, f"cannot be read: {error.strerror}", way_back) from None


def _check_length(path: Path, way_back: str) -> None:
    """A file cut within a page: SQLite would read the rest as zeros. While there is a -wal, that may be in order."""
    wal = Path(f"{path}-wal")
    if wal.exists() and wal.stat().st_size:
        return
    with path.open("rb") as file:
        header = file.read(18)
    page_bytes = int.from_bytes(header[16:18], "big")
    page_bytes = 65_536 if page_bytes == 1 else page_bytes
    if header.startswith(b"SQLite format 3\0") and page_bytes and path.stat().st_size % page_bytes:
        raise _unfit(path, "is damaged: its end is missing", way_back)


def one_line(error: BaseException) -> str:
    """What an exception says, in one line of bearable length: SQLite may quote a whole schema."""
    return " ".join(str(error).split())[:200]


def _check(connection: sqlite3.Connection, path: Path, way_back: str, thorough: bool) -> Found | None:
    version = migrations.check_ours(connection, path)
    if version == 0:
        return None
    for statement in _statements(path, thorough):
        said = connection.execute(statement).fetchall()
        if statement.startswith("PRAGMA") and said != [("ok",)]:
            what = str(said[0][0]).splitlines()[0] if said else "no answer"
            raise _unfit(path, f"is damaged: {what}", way_back)
    commits = "commits" if version >= 2 else "0"
    rows = connection.execute(f"SELECT cluster_id, incarnation, {commits} FROM cluster").fetchall()
    if not rows and connection.execute("SELECT count(*) FROM tasks").fetchone()[0] == 0:
        return None  # a first start that ended between the schema and the cluster's row
    if len(rows) != 1:
        raise _unfit(path, "is damaged: it does not say which cluster it belongs to", way_back)
    return Found(rows[0][0], rows[0][1], version, rows[0][2])


def _statements(path: Path, thorough: bool) -> tuple[str, ...]:
    if thorough:
        return ("PRAGMA integrity_check(1)",)
    if path.stat().st_size < FULL_CHECK_BYTES:
        return ("PRAGMA quick_check(1)",)
    return (*(f"PRAGMA quick_check({table})" for table in _SMALL_TABLES), *_EDGES)


def _unfit(path: Path, what: str, way_back: str) -> ClusterError:
    return ClusterError("bad_config", f"{path} {what}; {way_back}")
