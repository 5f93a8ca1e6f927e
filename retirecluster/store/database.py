"""The database of a main node: its files, its lock, its two adbapi pools.

One pool of one thread writes, so that transactions form a line; another reads beside it (WAL). Every
acknowledged change is on disk: `synchronous=FULL`.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from attrs import Factory, define, field
from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure

from retirecluster.domain import failpoints
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.store import migrations, rows
from retirecluster.store.failures import StoreFailure, store_failure
from retirecluster.store.folder import DataFolder, Mark, lock_folder
from retirecluster.store.integrity import check_file, one_line
from retirecluster.store.kept import Changed, Everything, Kept
from retirecluster.store.reads import status_counts_txn
from retirecluster.store.writes import WriteSet, write_txn

T = TypeVar("T")
BUSY_TIMEOUT_S = 5.0
READERS = 2


def _prepare(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "cache_size = -16000"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare_reading(connection: sqlite3.Connection) -> None:
    # Not as for writing: to ask for WAL waits for whoever has the database locked, even where it is WAL already.
    connection.isolation_level = None
    for pragma in ("query_only = ON", "cache_size = -16000"):
        connection.execute(f"PRAGMA {pragma}")


@define(eq=False)
class Database:
    """Opened by `open`, closed by `close`; everything in between goes through `write` and `read`."""

    path: Path
    cluster_id: str
    incarnation: int
    writer: adbapi.ConnectionPool
    reader: adbapi.ConnectionPool
    lock: int
    mark: Mark
    closed: bool = field(default=False)
    kept: Kept = field(default=Factory(lambda self: Kept(self.read), takes_self=True))
    broken: Callable[[Failure], None] = lambda failure: None
    """Told when a change finds the disk, or the database, broken."""

    @classmethod
    def open(
        cls, folder: Path, now: Moment, reactor: Any, reached: failpoints.Reached = failpoints.unarmed
    ) -> Database:
        """Lock the folder, bring the schema up to date, count the incarnation.

        Raises ClusterError bad_config with what is wrong and what to do.
        """
        lock = lock_folder(folder)
        files = DataFolder(folder)
        path = files.database
        try:
            cluster_id, incarnation, mark = _open_schema(files, now, reached)
        except (sqlite3.Error, OSError, UnicodeError) as error:
            os.close(lock)
            what = f"{path} cannot be used: {one_line(error)}; {_way_on(error, files)}"
            raise ClusterError("bad_config", what) from None
        except ClusterError:
            os.close(lock)
            raise
        return cls(
            path,
            cluster_id,
            incarnation,
            _pool(path, 1, reactor, _prepare),
            _pool(path, READERS, reactor, _prepare_reading),
            lock,
            mark,
        )

    def start(self) -> None:
        self.writer.start()
        self.reader.start()

    def write(self, writes: WriteSet) -> Deferred[None]:
        """Put a write set on disk; fires when it is committed."""
        changed = writes.changed_tasks()
        self.kept.begin(changed)
        return self.writer.runWithConnection(self._write, writes).addBoth(self._over, changed)

    def _over(self, outcome: T, changed: Changed) -> T:
        self.kept.end(changed)
        return outcome

    def _write(self, connection: Any, writes: WriteSet) -> None:
        commits = _transaction(connection, write_txn, writes)
        with suppress(OSError):  # what counts is on disk
            self.mark.put(commits)

    def change(self, changing: Callable[..., T], *arguments: object) -> Deferred[T]:
        """Run a `*_txn` function that changes what no turn speaks of, in line with the turns."""
        self.kept.begin(Everything)
        changed = self.writer.runWithConnection(_transaction, changing, *arguments)
        return changed.addBoth(self._over, Everything).addErrback(self._check)

    def _check(self, failure: Failure) -> Failure:
        """A disk that cannot be trusted is nothing that only the caller has to know of."""
        error = failure.value
        ours = isinstance(error, (sqlite3.IntegrityError, sqlite3.ProgrammingError))
        disk = isinstance(error, (sqlite3.DatabaseError, OSError)) and not ours
        if disk and store_failure(error) is StoreFailure.BROKEN:
            self.broken(failure)
        return failure

    def change_at_start(self, changing: Callable[..., T], *arguments: object) -> T:
        """The same, at once. Blocking: before anything is served. Raises ClusterError bad_config."""
        try:
            with closing(sqlite3.connect(self.path)) as connection:
                _prepare(connection)
                return _transaction(connection, changing, *arguments)
        except sqlite3.Error as error:
            what = f"{self.path} cannot be used: {one_line(error)}; {_way_on(error, DataFolder(self.path.parent))}"
            raise ClusterError("bad_config", what) from None

    def checkpoint(self) -> Deferred[None]:
        """Move what is in the -wal file into the database and cut that file, unless somebody reads just now."""
        return self.writer.runWithConnection(_checkpoint)

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

    def read_now(self, reading: Callable[..., T]) -> T:
        """Run a `*_txn` function of reading at once. Blocking: before anything is served."""
        connection = sqlite3.connect(self.path)
        try:
            return reading(connection.cursor())
        finally:
            connection.close()

    def restore(self, scheduler: Scheduler, now: Moment) -> None:
        """Fill an empty scheduler with what the database holds. Blocking: before anything is served.

        Raises ClusterError bad_config for rows that make no sense: damage that left the pages sound.
        """
        connection = sqlite3.connect(self.path)
        try:
            _restore(connection, scheduler, now)
        except (sqlite3.Error, ValueError, TypeError, LookupError, AttributeError) as error:
            what = f"{type(error).__name__}: {one_line(error)}"
            way_back = _restore_it(DataFolder(self.path.parent))
            raise ClusterError("bad_config", f"{self.path} is damaged: {what}; {way_back}") from None
        finally:
            connection.close()

    def close(self) -> None:
        """Close the pools (their threads end first) and let go of the folder."""
        if not self.closed:
            self.closed = True
            self.writer.close()
            self.reader.close()
            self.mark.close()
            os.close(self.lock)


def _pool(
    path: Path, threads: int, reactor: Any, prepare: Callable[[sqlite3.Connection], None]
) -> adbapi.ConnectionPool:
    return adbapi.ConnectionPool(
        "sqlite3",
        str(path),
        timeout=BUSY_TIMEOUT_S,
        check_same_thread=False,
        cp_min=threads,
        cp_max=threads,
        cp_openfun=prepare,
        cp_noisy=False,
        cp_reactor=reactor,
    )


def _transaction(connection: Any, changing: Callable[..., T], *arguments: object) -> T:
    cursor = connection.cursor()
    try:
        result = changing(cursor, *arguments)
    finally:
        # Here and not when it is collected: that may be in the reactor's thread, which would then wait, with all of
        # Python, for whatever this connection does by then, such as waiting for a lock.
        cursor.close()
    connection.commit()
    return result


def _checkpoint(connection: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout = 100")
    cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")
    cursor.close()


def _way_on(error: Exception, files: DataFolder) -> str:
    if store_failure(error) is StoreFailure.FULL:
        return f"make room on the disk of {files.path}"
    return _restore_it(files)


def _restore_it(files: DataFolder) -> str:
    return f"restore a backup: {files.way_back()}"


def _open_schema(files: DataFolder, now: Moment, reached: failpoints.Reached) -> tuple[str, int, Mark]:
    """Check that the database is sound and the folder's own, migrate it, and count the incarnation."""
    path = files.database
    _check_before_use(files)
    connection = sqlite3.connect(path)
    try:
        os.chmod(path, 0o600)
        _prepare(connection)
        migrations.migrate(connection, path, reached)
        cluster_id, incarnation = _count_incarnation(connection, now)
        commits = connection.execute("SELECT commits FROM cluster").fetchone()[0]
    finally:
        connection.close()
    if files.cluster_id() is None:
        files.name_cluster(cluster_id)
    mark = Mark(files.mark)
    mark.put(commits)
    mark.sync()
    return cluster_id, incarnation, mark


def _check_before_use(files: DataFolder) -> None:
    """Nothing is written before it is clear that this is the whole database of this cluster. Raises ClusterError."""
    path, way_back = files.database, _restore_it(files)
    lived = files.identity.exists()
    if not path.exists() or (path.stat().st_size == 0 and not Path(f"{path}-wal").exists()):
        if lived:
            what = "is empty" if path.exists() else "is missing"
            raise ClusterError(
                "bad_config",
                f"{path} {what}, but a cluster lived here: {way_back} (or remove {files.identity} to begin anew)",
            )
        return
    found = check_file(path, way_back)
    if found is None:
        if lived:
            raise ClusterError("bad_config", f"{path} holds no cluster, but one lived here: {way_back}")
        return
    known = files.cluster_id()
    if known not in (None, found.cluster_id):
        raise ClusterError(
            "bad_config",
            f"{path} belongs to {found.cluster_id}, and {files.identity} names {known}: put the right one there, or "
            f"{way_back}",
        )
    _check_complete(files, found.commits, way_back)


def _check_complete(files: DataFolder, commits: int, way_back: str) -> None:
    noted = Mark.read(files.mark)
    if noted > commits:
        path = files.database
        raise ClusterError(
            "bad_config",
            f"{path} lacks the last {noted - commits} of {noted} transactions that were acknowledged: was {path}-wal "
            f"deleted, or an old copy put there? Put the right files back, or {way_back} (FILE may be {path} itself)",
        )


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
    pending = (
        "SELECT t.task_id, v.copies FROM verifications v JOIN tasks t ON t.seq = v.task_seq AND v.state = 'pending'"
    )
    for task_id, copies in connection.execute(pending):
        scheduler.verifications.restored(ledger.tasks[task_id], rows.copies_from(copies))


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
