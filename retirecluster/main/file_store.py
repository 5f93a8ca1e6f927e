"""Contents of tasks' files on the main's disk: taken in piece by piece, kept once, read back.

A content that is complete lies in `files/ab/cd/` under its digest, which was checked before it got that name. What is
still coming lies in `files/parts/`, for each uploader apart: nobody can spoil another's upload. A piece is answered
when it was written, and a kill loses none of it; the whole is answered when it is on the disk for good.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field, frozen
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.scheduler import Moment
from retirecluster.domain.units import format_bytes
from retirecluster.store import files as rows
from retirecluster.store.database import Database
from retirecluster.store.file_backup import place_of
from retirecluster.store.folder import sync

T = TypeVar("T")
InThread = Callable[..., Awaitable[Any]]
"""Runs a blocking function with its arguments elsewhere."""
READ_BYTES = 1024 * 1024
UNWANTED_AFTER_S = 86_400.0
"""How long contents that no kept task names, and uploads that do not go on, are kept."""
_BATCH = 100
_NAME = re.compile(r"[0-9a-f]{64}")
log = Logger()


class WrongOffsetError(ClusterError):
    """A piece does not begin where the last one ended; `length` is how much is there."""

    def __init__(self, length: int) -> None:
        super().__init__("conflict", f"{length} bytes are here already: go on from offset {length}", field="offset")
        self.length = length


@frozen
class Quotas:
    """Sizes in bytes: of one file, of all together, and what must stay free on the disk."""

    max_file_bytes: int
    max_files_bytes: int
    min_free_bytes: int


@frozen
class Received:
    """How much of a content is there, in bytes."""

    length: int
    complete: bool


@define(eq=False)
class Part:
    """A content that is still coming, from one uploader."""

    path: Path
    length: int = 0
    hash: Any = field(factory=sha256)

    @classmethod
    def found(cls, path: Path) -> Part:
        """What an earlier life of the main left of it, read once."""
        part = cls(path)
        with suppress(FileNotFoundError), path.open("rb") as file:
            while data := file.read(READ_BYTES):
                part.hash.update(data)
                part.length += len(data)
        return part

    def append(self, data: bytes, min_free_bytes: int) -> None:
        """Write one more piece: all of it, or nothing. Raises ClusterError no_space."""
        if shutil.disk_usage(self.path.parent).free < len(data) + min_free_bytes:
            raise no_room(self.path.parent, min_free_bytes)
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb", buffering=0) as file:
            try:
                view = memoryview(data)
                file.seek(self.length)
                while view:
                    view = view[file.write(view) :]
            except OSError as error:
                file.truncate(self.length)
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise no_room(self.path.parent, min_free_bytes) from None
                raise
        self.hash.update(data)
        self.length += len(data)

    def settle(self, place: Path) -> None:
        """Give it its name, for good."""
        sync(self.path)
        for folder in (place.parent.parent, place.parent):
            if not folder.exists():
                folder.mkdir(mode=0o700, exist_ok=True)
                sync(folder.parent)
        self.path.replace(place)
        sync(place.parent)

    def drop(self) -> None:
        """Remove what came."""
        self.path.unlink(missing_ok=True)


@define(eq=False)
class FileStore:
    """The contents of one main. Everything that touches the disk runs in a thread."""

    folder: Path
    database: Database
    in_thread: InThread
    moment: Callable[[], Moment]
    quotas: Quotas
    used_bytes: int = 0
    """What all contents take up, those that are still coming included."""
    taken_in_bytes: int = 0
    given_out_bytes: int = 0
    """Of contents, since the start."""
    _parts: dict[str, Part] = field(factory=dict)
    _locks: dict[str, DeferredLock] = field(factory=dict)

    # -- start

    def restore(self) -> None:
        """Make folder and rows agree. Blocking: before anything is served. Raises ClusterError bad_config."""
        try:
            (self.folder / "parts").mkdir(mode=0o700, parents=True, exist_ok=True)
            there = {path.name: path.stat().st_size for path in self._contents()}
            coming = sum(path.stat().st_size for path in (self.folder / "parts").iterdir())
        except OSError as error:
            raise ClusterError("bad_config", f"{self.folder} cannot be used: {error.strerror}") from None
        known = self.database.change_at_start(rows.all_sizes_txn)
        lost = [each for each, size in known.items() if there.get(each) != size]
        new = {each: size for each, size in there.items() if each not in known}
        if lost:
            log.warn("{count} files are missing or cut short in {folder}", count=len(lost), folder=self.folder)
        if lost or new:
            # What lies there under its name is whole: it was checked before, and the main died before it said so.
            self.database.change_at_start(rows.reconcile_txn, lost, new, self.moment().wall_s)
        for each in lost:
            place_of(self.folder, each).unlink(missing_ok=True)
        self.used_bytes = sum(size for each, size in there.items() if each not in lost) + coming

    def _contents(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*") if _NAME.fullmatch(path.name))

    # -- taking in

    async def length(self, digest: str, owner: str) -> Received | None:
        """How much of a content is there for this uploader; None if nothing is."""
        found = await self.database.read(rows.file_txn, digest)
        if found is not None:
            return Received(found.size_bytes, True)
        async with self._lock(digest):
            part = await self._part(digest, owner, make=False)
        return Received(part.length, False) if part is not None else None

    async def add(self, digest: str, owner: str, offset: int, data: bytes, whole_bytes: int) -> Received:
        """Take in a piece of a content that has `whole_bytes` in all.

        Raises ClusterError: too_large, no_space, bad_field where the whole is not what its digest says, and
        WrongOffsetError.
        """
        self._check_size(whole_bytes, offset + len(data))
        async with self._lock(digest):
            if self._key(digest, owner) not in self._parts:
                found = await self.database.read(rows.file_txn, digest)
                if found is not None:
                    return Received(found.size_bytes, True)
            part = await self._part(digest, owner)
            assert part is not None
            if offset != part.length:
                raise WrongOffsetError(part.length)
            self._check_quota(whole_bytes - part.length)
            self.used_bytes += len(data)
            try:
                await self.in_thread(part.append, data, self.quotas.min_free_bytes)
            except BaseException:
                self.used_bytes -= len(data)
                raise
            self.taken_in_bytes += len(data)
            if part.length < whole_bytes:
                return Received(part.length, False)
            await self._complete(digest, owner, part)
            return Received(part.length, True)

    def _check_size(self, whole_bytes: int, end: int) -> None:
        if whole_bytes > self.quotas.max_file_bytes:
            most = format_bytes(self.quotas.max_file_bytes)
            raise ClusterError("too_large", f"the file has {format_bytes(whole_bytes)}; max_file_bytes allows {most}")
        if end > whole_bytes:
            raise ClusterError(
                "bad_field", f"Upload-Length is {whole_bytes}, and the piece ends at {end}", field="header"
            )

    def _check_quota(self, more_bytes: int) -> None:
        if self.used_bytes + more_bytes > self.quotas.max_files_bytes:
            used, most = format_bytes(self.used_bytes), format_bytes(self.quotas.max_files_bytes)
            raise ClusterError(
                "no_space",
                f"the main's files have {used}, and max_files_bytes allows {most}: remove some with "
                "`retire-cluster files rm`, or raise it",
            )

    async def _complete(self, digest: str, owner: str, part: Part) -> None:
        del self._parts[self._key(digest, owner)]
        found = part.hash.hexdigest()
        if found != digest:
            await self._drop(part)
            raise ClusterError(
                "bad_field", f"the content's SHA-256 is {found}, not {digest}: begin again", field="sha256"
            )
        if await self.database.read(rows.file_txn, digest) is not None:  # another uploader was first
            await self._drop(part)
            return
        await self.in_thread(part.settle, place_of(self.folder, digest))
        await self.database.change(rows.put_file_txn, digest, part.length, self.moment().wall_s)

    async def _part(self, digest: str, owner: str, *, make: bool = True) -> Part | None:
        key = self._key(digest, owner)
        part = self._parts.get(key)
        if part is not None:
            return part
        part = await self.in_thread(Part.found, self.folder / "parts" / key)
        if part.length or make:
            self._parts[key] = part
            return part
        return None

    async def _drop(self, part: Part) -> None:
        await self.in_thread(part.drop)
        self.used_bytes -= part.length

    # -- giving out

    async def open(self, digest: str) -> tuple[int, int]:
        """A descriptor of a content, which the caller closes, and its size in bytes. Raises ClusterError not_found."""
        try:
            descriptor: int = await self.in_thread(
                os.open, place_of(self.folder, digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except FileNotFoundError:
            raise ClusterError("not_found", f"there is no file {digest} here") from None
        return descriptor, os.fstat(descriptor).st_size

    def gave(self, size_bytes: int) -> None:
        """So much of a content was sent."""
        self.given_out_bytes += size_bytes

    # -- removing

    async def remove(self, digest: str) -> None:
        """Remove a content that no kept task names. Raises ClusterError: not_found, conflict."""
        if await self._forget(digest, inf):
            return
        if await self.database.read(rows.file_txn, digest) is not None:
            raise ClusterError("conflict", f"{digest} is a file of a task that is kept: it goes when the task goes")
        dropped = [path for path in (self.folder / "parts").glob(f"{digest}.*")]
        for path in dropped:
            await self._drop_path(path)
        if not dropped:
            raise ClusterError("not_found", f"there is no file {digest} here")

    async def clean(self) -> int:
        """Remove what nobody has wanted for a day; how many contents."""
        before_at = self.moment().wall_s - UNWANTED_AFTER_S
        removed = 0
        while unwanted := await self.database.read(rows.unwanted_files_txn, before_at, _BATCH):
            done = [await self._forget(each, before_at) for each in unwanted]
            removed += sum(done)
            if not any(done):
                break
        for path in await self.in_thread(_older_than, self.folder / "parts", before_at):
            await self._drop_path(path)
            removed += 1
        return removed

    async def _forget(self, digest: str, before_at: float) -> bool:
        async with self._lock(digest):
            if not await self.database.change(rows.forget_file_txn, digest, before_at):
                return False
            # The row went first: should the main die here, the file is found at the next start, and goes a day later.
            size: int = await self.in_thread(_remove, place_of(self.folder, digest))
            self.used_bytes -= size
        return True

    async def _drop_path(self, path: Path) -> None:
        async with self._lock(path.name.partition(".")[0]):
            self._parts.pop(path.name, None)
            size: int = await self.in_thread(_remove, path)
            self.used_bytes -= size

    # -- inside

    def _key(self, digest: str, owner: str) -> str:
        return f"{digest}.{sha256(owner.encode()).hexdigest()[:16]}"

    def _lock(self, digest: str) -> DeferredLock:
        """One change of a content at a time."""
        for each in [name for name, lock in self._locks.items() if not lock.locked and name != digest]:
            del self._locks[each]
        return self._locks.setdefault(digest, DeferredLock())


def no_room(folder: Path, min_free_bytes: int) -> ClusterError:
    """The error for a disk that is almost full."""
    return ClusterError(
        "no_space",
        f"the disk of {folder} has no room for more files above min_free_bytes ({format_bytes(min_free_bytes)}): make "
        "room there",
    )


def _remove(path: Path) -> int:
    """Remove a file; how many bytes it had."""
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    return size


def _older_than(folder: Path, before_at: float) -> list[Path]:
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before_at:
                found.append(path)
    return found
