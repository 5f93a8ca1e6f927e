"""Copies of a main's database: made while it runs, put back while it does not.

A restored database is older than what devices and people have seen. Whatever happened after the copy was made is not
known any more; what must not follow is that something of it is taken for current. So all counters jump (see
`RESTORE_STEP`), and whatever may have run since is run again only where that is allowed.

No Twisted here: these run as a program of their own (`python -m retirecluster.store`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.store import file_backup, migrations
from retirecluster.store.folder import DataFolder, lock_folder, sync
from retirecluster.store.integrity import Found, check_file, open_for_reading

RESTORE_STEP = 1_000_000
"""How far epochs, sessions and the incarnation jump at the first restore of a cluster; twice as far at the second."""
_LOCKED_S = 30.0
_CHANGED = (
    "SELECT seq, task_id, state, delivery, epoch, charged, crashes, reason FROM tasks "
    "WHERE state IN ('blocked', 'queued', 'assigned', 'running', 'retrying', 'held', 'cancelling') ORDER BY seq"
)
_WITH_A_DEVICE = ("assigned", "running", "cancelling")


@frozen
class Restored:
    """What a restore did. `aside` is where the replaced database is, or None; `tasks` counts states it left them in."""

    database: Path
    cluster_id: str
    aside: Path | None
    tasks: dict[str, int]
    files: file_backup.Moved | None = None
    """The contents of tasks' files; None where those were left as they are."""


def timestamp(now_s: float) -> str:
    """An instant (Unix seconds) as it stands in file names, in UTC."""
    return datetime.fromtimestamp(now_s, timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def back_up(files: DataFolder, output: Path | None, now_s: float) -> Path:
    """Copy the database of a main, which may run, to one file; returns it once it is checked and on disk.

    `output` None: a new file in the folder's backups/. A file that is there is replaced as a whole, if it is a backup.
    Raises ClusterError bad_config; then nothing is left behind.
    """
    source = files.database
    if not source.is_file():
        raise ClusterError("bad_config", f"{source} is missing: --data-dir must name the data folder of a main")
    target = output or files.backups / f"cluster-{timestamp(now_s)}.db"
    _check_target(source, target)
    draft = target.with_name(f".{target.name}.new")
    try:
        if output is None:
            target.parent.mkdir(mode=0o700, exist_ok=True)
        _copy(source, draft)
        if check_file(draft, f"back up again: what {source} holds could not be copied whole", thorough=True) is None:
            raise ClusterError("bad_config", f"{source} holds no cluster: there is nothing to back up")
        draft.replace(target)
        sync(target.parent)
    except (sqlite3.Error, OSError, UnicodeError) as error:
        raise ClusterError("bad_config", f"{source} could not be copied to {target}: {error}") from None
    finally:
        draft.unlink(missing_ok=True)
    return target


def back_up_files(files: DataFolder, backup: Path) -> file_backup.Moved:
    """Bring the contents that a backup names into its folder of files. Raises ClusterError bad_config.

    They may be on their way out of the data folder meanwhile, so they come after the rows. Until this ends, the folder
    may also have those of the backup that was replaced.
    """
    target = file_backup.folder_of(backup)
    try:
        wanted = file_backup.named(backup)
        moved = file_backup.save(wanted, files.files, target)
        file_backup.thin_out(wanted, target)
    except (sqlite3.Error, OSError) as error:
        raise ClusterError("bad_config", f"the files could not be copied to {target}: {error}") from None
    return moved


def _check_target(source: Path, target: Path) -> None:
    if target.is_dir():
        raise ClusterError("bad_config", f"{target} is a folder: name a file")
    if target.exists():
        if target.samefile(source):
            raise ClusterError("bad_config", f"{target} is the database itself: name another file")
        check_file(target, "it is not a backup, and is not replaced: name another file")


def _copy(source: Path, target: Path) -> None:
    """A copy as of one moment, in one file without -wal, on disk."""
    target.unlink(missing_ok=True)
    with closing(open_for_reading(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.execute(f"PRAGMA busy_timeout = {int(_LOCKED_S * 1000)}")
        target.chmod(0o600)
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = DELETE")
    sync(target)


def restore(backup: Path, files: DataFolder, now_s: float, with_files: bool = True) -> Restored:
    """Put a backup in place of the database of a main that does not run; the replaced one is kept beside it.

    The contents of its files come first, `with_files`: a crash before the database leaves what the next start enters.

    Raises ClusterError bad_config if a main runs there, or the file is not a sound backup of this cluster; then
    nothing was changed.
    """
    lock = lock_folder(files.path)
    try:
        found = _check_backup(backup, files)
        draft = files.database.with_name("cluster.db.restoring")
        try:
            moved = _put_files_back(backup, files) if with_files else None
            return evolve(_put_in_place(backup, draft, files, found, now_s), files=moved)
        except (sqlite3.Error, OSError, UnicodeError) as error:
            raise ClusterError("bad_config", f"{backup} could not be restored to {files.path}: {error}") from None
        finally:
            for suffix in ("", "-wal", "-shm", "-journal"):
                Path(f"{draft}{suffix}").unlink(missing_ok=True)
    finally:
        os.close(lock)


def _put_files_back(backup: Path, files: DataFolder) -> file_backup.Moved | None:
    wanted = file_backup.named(backup)
    return file_backup.put_back(wanted, file_backup.folder_of(backup), files.files) if wanted else None


def _check_backup(backup: Path, files: DataFolder) -> Found:
    found = check_file(backup, "it cannot be restored: take another backup", thorough=True)
    if found is None:
        raise ClusterError("bad_config", f"{backup} holds no cluster: take another backup")
    known = files.cluster_id()
    if known not in (None, found.cluster_id):
        raise ClusterError(
            "bad_config",
            f"{backup} is of {found.cluster_id}, and {files.path} belongs to {known}: name another backup or folder, "
            f"or remove {files.identity}",
        )
    return found


def _put_in_place(backup: Path, draft: Path, files: DataFolder, found: Found, now_s: float) -> Restored:
    _copy(backup, draft)
    connection = sqlite3.connect(draft)
    try:
        connection.isolation_level = None
        _bring_up_to_date(connection, draft)
        jump = RESTORE_STEP * _restores_before(files, found)
        connection.execute("BEGIN IMMEDIATE")
        tasks = jump_txn(connection.cursor(), jump, backup.name, now_s)
        connection.execute("COMMIT")
    finally:
        connection.close()
    check_file(draft, "the restored copy is not sound: try again", thorough=True)
    sync(draft)
    aside = _set_aside(files, now_s)
    # Without the mark the restored database is not missed what the replaced one had.
    files.mark.unlink(missing_ok=True)
    draft.replace(files.database)
    sync(files.path)
    if files.cluster_id() is None:
        files.name_cluster(found.cluster_id)
    return Restored(files.database, found.cluster_id, aside, tasks)


def _bring_up_to_date(connection: sqlite3.Connection, draft: Path) -> None:
    version = migrations.check_ours(connection, draft)
    for number, script in migrations.scripts():
        if number > version:
            migrations.apply(connection, number, script)


def _restores_before(files: DataFolder, found: Found) -> int:
    """By how many steps to jump: beyond the backup's own numbers, and beyond those that the folder has seen.

    The same backup may be restored twice: what was granted in between must not be granted again.
    """
    seen = [found.incarnation]
    for path in (files.database, *files.path.glob("cluster.db.replaced-*Z")):
        try:
            other = check_file(path, "") if path.exists() else None
        except ClusterError:
            other = None  # damaged: its name still tells that there was a restore
        if other is not None and other.cluster_id == found.cluster_id:
            seen.append(other.incarnation)
    restores = len(list(files.path.glob("cluster.db.replaced-*Z")))
    return max(max(seen) // RESTORE_STEP, restores) - found.incarnation // RESTORE_STEP + 1


def _set_aside(files: DataFolder, now_s: float) -> Path | None:
    """Rename the database that is replaced, its -wal after it: at no time is there one without the other in use."""
    aside = files.database.with_name(f"cluster.db.replaced-{timestamp(now_s)}")
    while aside.exists():
        now_s += 1.0
        aside = files.database.with_name(f"cluster.db.replaced-{timestamp(now_s)}")
    moved = None
    for suffix in ("", "-wal"):
        path = Path(f"{files.database}{suffix}")
        if path.exists():
            path.replace(f"{aside}{suffix}")
            moved = aside
    Path(f"{files.database}-shm").unlink(missing_ok=True)
    sync(files.path)
    return moved


def jump_txn(cursor: Any, jump: int, backup_name: str, now_s: float) -> dict[str, int]:
    """Make the database of a backup fit to go on with; how many tasks it left in which state.

    Everything that may have been granted since the copy was made has an epoch, session or incarnation below the new
    ones. Tasks that have not ended are queued again; with `at_most_once`, those that a device held are lost, and
    those that waited, which may have run since, are held for a person. A cancel that was on its way is done.
    """
    changed = cursor.execute(_CHANGED).fetchall()
    cursor.execute("UPDATE cluster SET incarnation = incarnation + ?", (jump,))
    cursor.execute("UPDATE devices SET session_no = session_no + ?", (jump,))
    reason = f"restored from {backup_name}"
    cursor.execute(
        "UPDATE attempts SET outcome = 'restored', finished_at = ?, reason = ? WHERE outcome IS NULL", (now_s, reason)
    )
    log = _EventLog(cursor, now_s)
    log.add(
        "cluster",
        "restored",
        None,
        {"backup": backup_name, "epochs_raised_by": jump, "sessions_raised_by": jump, "incarnation_raised_by": jump},
    )
    counts: Counter[str] = Counter()
    for seq, task_id, state, delivery, epoch, charged, crashes, before in changed:
        target, why = _after_restore(state, delivery, reason)
        facts = {
            "status": target,
            "epoch": epoch + jump,
            "charged": charged,
            "crashes": crashes,
            "reason": why or before,
        }
        ended_at = now_s if target in ("lost", "cancelled") else None
        cursor.execute(
            "UPDATE tasks SET state = ?, epoch = ?, reason = ?, finished_at = ?, not_before_at = NULL WHERE seq = ?",
            (target, epoch + jump, why or before, ended_at, seq),
        )
        log.add("task", "restored", task_id, facts)
        counts[target] += 1
    return dict(counts)


def _after_restore(state: str, delivery: str, reason: str) -> tuple[str, str]:
    """The state of a task after a restore, and why; an empty reason: as before."""
    held_by_device = state in _WITH_A_DEVICE
    if delivery == "at_most_once":
        if held_by_device:
            return "lost", f"{reason}: nobody can tell what became of it"
        return "held", f"{reason}: it may have run since then; release it if it did not"
    if state == "cancelling":
        return "cancelled", reason
    if state in ("held", "blocked"):
        return state, ""
    return "queued", reason


class _EventLog:
    """Goes on with the numbers of the log."""

    def __init__(self, cursor: Any, at: float) -> None:
        self._cursor = cursor
        self._at = at
        self._last_no: int = cursor.execute("SELECT coalesce(max(event_no), 0) FROM events").fetchone()[0]

    def add(self, subject: str, kind: str, task_id: str | None, data: dict[str, Any]) -> None:
        self._last_no += 1
        self._cursor.execute(
            "INSERT INTO events (event_no, at, subject, kind, task_id, data) VALUES (?, ?, ?, ?, ?, ?)",
            (self._last_no, self._at, subject, kind, task_id, json.dumps(data, separators=(",", ":"))),
        )
