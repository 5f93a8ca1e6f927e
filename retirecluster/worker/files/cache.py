"""Contents of files by their digests, in the worker's data folder: the least recently used goes first.

Who uses a content pins it; what is pinned stays, whatever the cap says. The cache is not believed: tasks may run under
the worker's own user, so whoever copies from here checks the hash again.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from threading import RLock

from attrs import define, field

from retirecluster.domain.units import GIB, MIB, format_bytes

DEFAULT_BYTES = 2 * GIB
KEPT_FREE_BYTES = 64 * MIB
"""What files leave free on the disk."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class NoRoomError(Exception):
    """The disk of the device has no room; the message says how much is needed and left."""


def free_bytes(folder: Path) -> int:
    """What may still be written below `folder`."""
    return shutil.disk_usage(folder).free


def default_bytes(folder: Path) -> int:
    """How much is kept unless the owner says: 2 GiB, or a tenth of the disk if that is less."""
    return min(DEFAULT_BYTES, shutil.disk_usage(folder).total // 10)


def check_room(folder: Path, more_bytes: int, free: Callable[[Path], int] = free_bytes) -> None:
    """Raises NoRoomError unless this much may be added on the disk of a folder."""
    left = free(folder)
    if more_bytes + KEPT_FREE_BYTES > left:
        raise NoRoomError(
            f"{format_bytes(more_bytes)} are needed, the disk of {folder} has {format_bytes(left)} left, and "
            f"{format_bytes(KEPT_FREE_BYTES)} stay free"
        )


@define(eq=False)
class FileCache:
    """The folder with its books. Methods are short; `shed` may be called from another thread."""

    folder: Path
    max_bytes: int
    free: Callable[[Path], int] = free_bytes
    total_bytes: int = 0
    _sizes: OrderedDict[str, int] = field(factory=OrderedDict)
    """Digest to size, the least recently used first."""
    _pins: Counter[str] = field(factory=Counter)
    _lock: RLock = field(factory=RLock)

    def open(self) -> None:
        """Take over what an earlier life left. Blocking, at start."""
        self.parts.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.folder, 0o700)
        found = []
        for entry in os.scandir(self.folder):
            if _DIGEST.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                stat = entry.stat(follow_symlinks=False)
                found.append((stat.st_mtime, entry.name, stat.st_size))
        for _, digest, size in sorted(found):
            self._sizes[digest] = size
            self.total_bytes += size

    @property
    def parts(self) -> Path:
        """Where contents that are still coming are; what is left there is gone on with."""
        return self.folder / "parts"

    def path(self, digest: str) -> Path:
        """Where a content is, if it is here."""
        return self.folder / digest

    def has(self, digest: str) -> bool:
        """Whether a content is here; it counts as used."""
        with self._lock:
            if digest not in self._sizes:
                return False
            self._sizes.move_to_end(digest)
        with suppress(OSError):
            os.utime(self.path(digest))
        return True

    def added(self, digest: str, size_bytes: int) -> None:
        """A content was put at its path."""
        with self._lock:
            self.total_bytes += size_bytes - self._sizes.pop(digest, 0)
            self._sizes[digest] = size_bytes
            self._trim(0)

    def pin(self, digests: Iterable[str]) -> None:
        """Keep these until they are unpinned as often."""
        with self._lock:
            self._pins.update(digests)

    def unpin(self, digests: Iterable[str]) -> None:
        with self._lock:
            for digest in digests:
                self._pins[digest] -= 1
                if self._pins[digest] <= 0:
                    del self._pins[digest]
            self._trim(0)

    def discard(self, digest: str) -> None:
        """Remove a content that is not what it should be."""
        with self._lock:
            self.total_bytes -= self._sizes.pop(digest, 0)
            with suppress(FileNotFoundError):
                self.path(digest).unlink()

    def make_room(self, more_bytes: int) -> None:
        """See that this much may be added. Raises NoRoomError where the disk is too full for it."""
        with self._lock:
            self._trim(more_bytes)
            while self._short_of(more_bytes) > 0 and self._drop_oldest():
                pass
            check_room(self.folder, more_bytes, self.free)

    def shed(self) -> int:
        """Give up all that nobody uses; how many bytes that were."""
        with self._lock:
            before = self.total_bytes
            while self._drop_oldest():
                pass
            return before - self.total_bytes

    def _short_of(self, more_bytes: int) -> int:
        return more_bytes + KEPT_FREE_BYTES - self.free(self.folder)

    def _trim(self, more_bytes: int) -> None:
        while self.total_bytes + more_bytes > self.max_bytes and self._drop_oldest():
            pass

    def _drop_oldest(self) -> bool:
        digest = next((each for each in self._sizes if each not in self._pins), None)
        if digest is None:
            return False
        self.discard(digest)
        return True
