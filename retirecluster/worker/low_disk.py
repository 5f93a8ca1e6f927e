"""Making room when the worker's disk is nearly full: what nobody needs any more is removed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import define, field
from twisted.logger import Logger

from retirecluster.domain.units import format_bytes

EVERY_S = 600.0
"""Making room costs reads of the disk: not at each heartbeat."""
OLD_LOG = re.compile(r".+\.log\.(\d+|\d{4}[_-]\d\d[_-]\d\d)(\.gz)?")
"""Logs that were rotated away, as twistd and logrotate name them."""
Marks = tuple[int, int, int]
GONE: Marks = (0, 0, 0)
Cache = Callable[[], int]
"""Gives up what it can and returns how many bytes that was."""


@define(eq=False)
class LowDisk:
    """Cleans the data folder of a worker. Called in a thread, with what the monitor finds wrong.

    It is made before the first task runner starts: what is in the scratch folder then is of an earlier life.
    """

    folder: Path
    scratch: Path
    monotonic: Callable[[], float]
    caches: Sequence[Cache] = ()
    log = Logger()
    _cleaned_at: float | None = None
    _earlier: Mapping[Path, Marks] = field(init=False)

    def __attrs_post_init__(self) -> None:
        places = self.scratch.iterdir() if self.scratch.is_dir() else ()
        self._earlier = {place: _marks(place) for place in places}

    def heed(self, problems: Sequence[str]) -> int:
        """If the disk is low, make room, at most every ten minutes; how many bytes were freed."""
        now = self.monotonic()
        low = any(each.startswith("low disk") for each in problems)
        if not low or (self._cleaned_at is not None and now - self._cleaned_at < EVERY_S):
            return 0
        self._cleaned_at = now
        freed = sum(_remove(place) for place in self.removable()) + sum(cache() for cache in self.caches)
        self.log.warn("{why}: {freed} were cleaned up", why="; ".join(problems), freed=format_bytes(freed))
        return freed

    def removable(self) -> Iterator[Path]:
        """Old logs, and what tasks of an earlier life of the worker left. No halves of files: one may be just being
        written, and those of an earlier life go when the folder is opened."""
        for place in self.folder.iterdir():
            if place.is_file() and OLD_LOG.fullmatch(place.name):
                yield place
        # A runner whose part has the name of an old one changes that folder with its first task.
        yield from (place for place, marks in self._earlier.items() if marks != GONE and _marks(place) == marks)


def _marks(place: Path) -> Marks:
    """What changes when a folder is used again, whatever clocks do; GONE for one that is not there."""
    try:
        found = place.lstat()
    except OSError:
        return GONE
    return found.st_ino, found.st_ctime_ns, found.st_mtime_ns


def _remove(place: Path) -> int:
    """Remove a file or a folder; how many bytes it had. What cannot be removed counts as nothing."""
    if place.is_dir() and not place.is_symlink():
        size = sum(each.lstat().st_size for each in place.rglob("*") if each.is_file() and not each.is_symlink())
        shutil.rmtree(place, ignore_errors=True)
        return 0 if place.exists() else size
    try:
        size = place.lstat().st_size
        place.unlink()
    except OSError:
        return 0
    return size
