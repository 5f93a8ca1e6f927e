"""The data folder of a main: what lies in it, and who may use it.

====================  ==========================================================================
cluster.db            everything; with cluster.db-wal and cluster.db-shm while it is in use
cluster.id            which cluster lives here
cluster.mark          how many transactions were committed: the database may not know of fewer
reserve.bin           space that is given back when the disk is full
files/                contents of tasks' files, by their digests; files/parts/ those that are still coming
backups/              where `retire-cluster backup` puts copies
lock                  held by the main that runs, or by a restore
====================  ==========================================================================
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from attrs import field, frozen

from retirecluster.domain.errors import ClusterError

MARK_DIGITS = 20


@frozen
class DataFolder:
    """The paths of one data folder."""

    path: Path = field(converter=Path)

    @property
    def database(self) -> Path:
        """The database; `-wal` and `-shm` stand beside it."""
        return self.path / "cluster.db"

    @property
    def identity(self) -> Path:
        """Holds the id of the cluster, one line."""
        return self.path / "cluster.id"

    @property
    def mark(self) -> Path:
        """Holds how many transactions were committed."""
        return self.path / "cluster.mark"

    @property
    def reserve(self) -> Path:
        """Takes up space until it is needed."""
        return self.path / "reserve.bin"

    @property
    def backups(self) -> Path:
        """Where copies go unless told otherwise."""
        return self.path / "backups"

    @property
    def files(self) -> Path:
        """Holds the contents of tasks' files."""
        return self.path / "files"

    def way_back(self) -> str:
        """What to type to put a backup in place of the database."""
        return f"retire-cluster restore FILE --data-dir {self.path}"

    def cluster_id(self) -> str | None:
        """The cluster that lives here; None where none ever did, or where that is not known."""
        try:
            return self.identity.read_text("utf-8", "replace").strip() or None
        except FileNotFoundError:
            return None

    def name_cluster(self, cluster_id: str) -> None:
        """Write down which cluster lives here: whole, or not at all."""
        draft = self.identity.with_name("cluster.id.new")
        draft.write_text(cluster_id + "\n")
        sync(draft)
        draft.replace(self.identity)
        sync(self.path)


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


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Mark:
    """How many transactions were committed, noted outside of the database after each.

    Without it nobody could tell a database whose `-wal` file was deleted, or an old copy that was put in its place,
    from the real one: both are sound, and lack what was acknowledged last. It is written without waiting for the
    disk: after a power cut it may be behind the database, and never ahead.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def put(self, commits: int) -> None:
        """Note a transaction that is on disk."""
        os.pwrite(self._descriptor, b"%0*d\n" % (MARK_DIGITS, commits), 0)

    def sync(self) -> None:
        """Wait until it is on disk: once, so that the file is never found empty later."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)

    @staticmethod
    def read(path: Path) -> int:
        """The number of transactions; 0 where that is not known."""
        try:
            text = path.read_bytes()[:MARK_DIGITS]
        except OSError:
            return 0
        return int(text) if text.isdigit() else 0
