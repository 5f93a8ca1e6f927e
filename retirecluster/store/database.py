"""The database of a main node: its files, its lock, its two adbapi pools.

One pool of one thread writes, so that transactions form a line; another reads beside it (WAL). Every
acknowledged change is on disk: `synchronous=FULL`.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.store import migrations, rows
from retirecluster.store.reads import status_counts_txn
from retirecluster.store.writes import WriteSet, write_txn

T = TypeVar("T")
BUSY_TIMEOUT_S = 5.0
READERS = 2
FILE_NAME = "cluster.db"


def _prepare(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -16000"):
        connection.execute(f"PRAGMA {pragma}")


def lock_folder(folder: Path) -> int:
    """Take the data folder for this process alone; returns the descriptor that holds the lock.

    Raises ClusterError bad_config if another process has it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ClusterError("bad_config", f"data_dir: {folder} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ClusterError(
            "bad_config", f"data_dir: {folder} is in use by another main: stop it, or name another"
        ) from None
    return descriptor


@define(eq=False)
class Database:
    """Opened by `open`, closed by `close`; everything in between goes through `write` and `read`."""

    path: Path
    cluster_id: str
    incarnation: int
    writer: adbapi.ConnectionPool
    reader: adbapi.ConnectionPool
    lock: int
    closed: bool = field(default=False)

    @classmethod
    def open(cls, folder: Path, now: Moment, reactor: Any) -> Database:
        """Lock the folder, bring the schema up to date, count the incarnation.

        Raises ClusterError bad_config with what is wrong and what to do.
        """
        lock = lock_folder(folder)
        path = folder / FILE_NAME
        try:
            cluster_id, incarnation = _open_schema(path, folder / "cluster.id", now)
        except sqlite3.Error as error:
            os.close(lock)
            raise ClusterError("bad_config", f"{path} cannot be used: {error}; restore it from a backup") from None
        except ClusterError:
            os.close(lock)
            raise
        return cls(path, cluster_id, incarnation, _pool(path, 1, reactor), _pool(path, READERS, reactor), lock)

    def start(self) -> None:
        self.writer.start()
        self.reader.start()

    def write(self, writes: WriteSet) -> Deferred[None]:
        """Put a write set on disk; fires when it is committed."""
        return self.writer.runInteraction(write_txn, writes)

    def read(self, reading: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Run a `*_txn` function of `reads` beside the writer."""
        return deferToThreadPool(self.reader._reactor, self.reader.threadpool, self._read, reading, arguments)

    def _read(self, reading: Callable[..., T], arguments: tuple[object, ...]) -> T:
        # Not runInteraction: a read needs no commit, and its cursor is made on the thread's own connection.
        cursor = self.reader.connect().cursor()
        try:
            return reading(cursor, *arguments)
        finally:
            cursor.close()

    def restore(self, scheduler: Scheduler, now: Moment) -> None:
        """Fill an empty scheduler with what the database holds. Blocking: before anything is served."""
        connection = sqlite3.connect(self.path)
        try:
            _restore(connection, scheduler, now)
        finally:
            connection.close()

    def close(self) -> None:
        """Close the pools (their threads end first) and let go of the folder."""
        if not self.closed:
            self.closed = True
            self.writer.close()
            self.reader.close()
            os.close(self.lock)


def _pool(path: Path, threads: int, reactor: Any) -> adbapi.ConnectionPool:
    return adbapi.ConnectionPool(
        "sqlite3",
        str(path),
        timeout=BUSY_TIMEOUT_S,
        check_same_thread=False,
        cp_min=threads,
        cp_max=threads,
        cp_openfun=_prepare,
        cp_noisy=False,
        cp_reactor=reactor,
    )


def _open_schema(path: Path, id_file: Path, now: Moment) -> tuple[str, int]:
    """Migrate, check that the database is the one the folder belongs to, and count the incarnation."""
    existed = id_file.exists()
    if existed and (not path.exists() or path.stat().st_size == 0):
        raise ClusterError(
            "bad_config", f"{path} is missing or empty, but a cluster lived here: restore it, or remove {id_file}"
        )
    connection = sqlite3.connect(path)
    try:
        os.chmod(path, 0o600)
        _prepare(connection)
        migrations.migrate(connection, path)
        cluster_id, incarnation = _count_incarnation(connection, now)
    finally:
        connection.close()
    if not existed:
        id_file.write_text(cluster_id + "\n")
    elif id_file.read_text().strip() != cluster_id:
        raise ClusterError(
            "bad_config", f"{path} belongs to another cluster than {id_file} names: restore the right one"
        )
    return cluster_id, incarnation


def _count_incarnation(connection: sqlite3.Connection, now: Moment) -> tuple[str, int]:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT OR IGNORE INTO cluster (only_row, cluster_id, incarnation, created_at, running_s) "
        "VALUES (1, ?, 0, ?, 0)",
        ("cluster-" + secrets.token_hex(6), now.wall_s),
    )
    connection.execute("UPDATE cluster SET incarnation = incarnation + 1")
    cluster_id, incarnation = connection.execute("SELECT cluster_id, incarnation FROM cluster").fetchone()
    connection.execute("COMMIT")
    return cluster_id, incarnation


def _restore(connection: sqlite3.Connection, scheduler: Scheduler, now: Moment) -> None:
    ledger = scheduler.ledger
    scheduler.tasks.running_s_before = connection.execute("SELECT running_s FROM cluster").fetchone()[0]
    ledger.last_event_no = connection.execute("SELECT coalesce(max(event_no), 0) FROM events").fetchone()[0]
    ledger.last_task_seq = connection.execute("SELECT coalesce(max(seq), 0) FROM tasks").fetchone()[0]
    ledger.counts.update({State(name): count for name, count in status_counts_txn(connection.cursor()).items()})
    for row in connection.execute(f"SELECT {rows.DEVICE_COLUMNS} FROM devices"):
        scheduler.restore_device(rows.device_from_row(row), now)
    reader = rows.TaskReader(scheduler.queues.class_for)
    for row, attempt in _unfinished(connection):
        scheduler.restore_task(reader.read(row), attempt, now)


def _unfinished(connection: sqlite3.Connection) -> Iterator[tuple[rows.Row, Any]]:
    """Rows of tasks that are not final, each with its current attempt or None."""
    columns = ", ".join(f"t.{name}" for name in rows.RESTORE_COLUMNS.split(", "))
    attempt_columns = ", ".join(f"a.{name}" for name in rows.ATTEMPT_COLUMNS.split(", "))
    width = len(rows.RESTORE_COLUMNS.split(", "))
    cursor = connection.execute(
        f"SELECT {columns}, {attempt_columns} FROM tasks t LEFT JOIN attempts a "
        "ON a.task_seq = t.seq AND a.epoch = t.epoch AND a.outcome IS NULL "
        "WHERE t.state IN ('blocked', 'queued', 'assigned', 'running', 'retrying', 'held', 'cancelling')"
    )
    for row in cursor:
        current = rows.attempt_from_row(row[width:]) if row[width] is not None else None
        yield row[:width], current
