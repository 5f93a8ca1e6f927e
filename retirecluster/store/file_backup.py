"""The contents of tasks' files beside a copy of the database: made after it, put back before it.

A content never changes under its name, so a backup on the same disk is a hard link and takes no room; elsewhere it is a
copy. The rows of the copied database say which contents belong to it: one that is gone by the time it is looked for
was removed because no kept task named it.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from hashlib import sha256
from pathlib import Path

from attrs import define

from retirecluster.domain.units import format_bytes
from retirecluster.store.folder import sync

_READ_BYTES = 1024 * 1024


@define
class Moved:
    """What became of the contents that a database names: how many are there, and which are not."""

    count: int = 0
    size_bytes: int = 0
    missing: int = 0
    damaged: int = 0

    def __str__(self) -> str:
        text = f"{self.count} files, {format_bytes(self.size_bytes)}"
        text += f"; {self.missing} are missing" if self.missing else ""
        return text + (f"; {self.damaged} are damaged and were left out" if self.damaged else "")


def folder_of(backup: Path) -> Path:
    """Where the files of a backup are."""
    return backup.with_name(f"{backup.name}.files")


def place_of(folder: Path, digest: str) -> Path:
    """Where a content lies in a folder of contents, be it the main's or that of a backup."""
    return folder / digest[:2] / digest[2:4] / digest


def named(database: Path) -> dict[str, int]:
    """The contents that a database which nobody writes to says are complete: digest to size. Raises sqlite3.Error."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        has_files = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'files'").fetchone()
        return dict(connection.execute("SELECT sha256, size_bytes FROM files")) if has_files else {}


def save(wanted: Mapping[str, int], source: Path, target: Path) -> Moved:
    """Bring contents from the main's folder into that of a backup; what is there already stays. Raises OSError."""
    found = Moved()
    for digest, size in sorted(wanted.items()):
        _bring(place_of(source, digest), place_of(target, digest), digest, size, found)
    return found


def thin_out(wanted: Mapping[str, int], target: Path) -> None:
    """Remove from a backup's folder what its database does not name."""
    for path in list(_contents(target)):
        if path.name not in wanted:
            path.unlink()
            for above in (path.parent, path.parent.parent, target):
                with suppress(OSError):
                    above.rmdir()


def put_back(wanted: Mapping[str, int], backup: Path, folder: Path) -> Moved:
    """Bring the contents of a backup into a main's folder, each checked by its hash. Raises OSError.

    One that the main's folder has as it should be stays. A damaged one is not put back.
    """
    found = Moved()
    for digest, size in sorted(wanted.items()):
        source, target = place_of(backup, digest), place_of(folder, digest)
        if _is_whole(target, digest, size):
            found.count, found.size_bytes = found.count + 1, found.size_bytes + size
        elif not source.is_file():
            found.missing += 1
        elif not _is_whole(source, digest, size):
            found.damaged += 1
        else:
            target.unlink(missing_ok=True)
            _bring(source, target, digest, size, found)
    return found


def _contents(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*") if path.is_file())


def _bring(source: Path, target: Path, digest: str, size: int, found: Moved) -> None:
    """Link or copy one content, and count what became of it."""
    if not (target.is_file() and target.stat().st_size == size):
        if not source.is_file():
            found.missing += 1
            return
        if source.stat().st_size != size:
            found.damaged += 1
            return
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except FileNotFoundError:
            found.missing += 1
            return
        except OSError:  # another disk, or one without links
            if not _copy(source, target, digest):
                found.damaged += 1
                return
        sync(target.parent)
    found.count, found.size_bytes = found.count + 1, found.size_bytes + size


def _copy(source: Path, target: Path, digest: str) -> bool:
    """Copy to the disk for good; False, and nothing, where the content is not what it is called."""
    draft = target.with_name(f".{target.name}.new")
    try:
        shutil.copyfile(source, draft)
        draft.chmod(0o600)
        if _hash(draft) != digest:
            return False
        sync(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return True


def _is_whole(path: Path, digest: str, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size and _hash(path) == digest


def _hash(path: Path) -> str:
    made = sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            made.update(data)
    return made.hexdigest()
