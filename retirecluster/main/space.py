"""Room on the disk of the data folder: how much is left, and a reserve for the last turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from attrs import define

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import format_bytes

LOOK_EVERY_S = 1.0
ROOM_TO_START_BYTES = 1024 * 1024
_PIECE = 65_536


def free_bytes(folder: Path) -> int:
    """What this process may still write below `folder`."""
    return shutil.disk_usage(folder).free


@define(eq=False)
class Space:
    """Says whether there is room for new tasks. `seconds` is a monotonic clock; `look` finds the free bytes."""

    folder: Path
    min_free_bytes: int
    seconds: Callable[[], float]
    look: Callable[[Path], int] = free_bytes
    _looked_at_s: float | None = None
    _free: int | None = None

    def free(self) -> int | None:
        """Free bytes as of at most a second ago; None where nobody can tell, as before the folder is made."""
        now_s = self.seconds()
        if self._looked_at_s is None or now_s - self._looked_at_s >= LOOK_EVERY_S:
            self._looked_at_s = now_s
            try:
                self._free = self.look(self.folder)
            except OSError:
                self._free = self._looked_at_s = None
        return self._free

    def problem(self) -> str:
        """What to say about the disk; empty while there is room."""
        free = self.free()
        if free is None or free >= self.min_free_bytes:
            return ""
        return (
            f"the disk of {self.folder} has {format_bytes(free)} left, min_free_bytes is "
            f"{format_bytes(self.min_free_bytes)}: make room there"
        )

    def check(self) -> None:
        """Raises ClusterError no_space when there is no room for new tasks."""
        problem = self.problem()
        if problem:
            raise ClusterError("no_space", f"no new tasks are taken in: {problem}")


@define(eq=False)
class Reserve:
    """A file that takes up room, and gives it back to the turn that found the disk full."""

    path: Path
    size_bytes: int
    space: Space

    def make(self) -> bool:
        """Have the file with real blocks under it; False if there is no room for it now.

        It is not made of the room that new tasks are refused for: that is for results.
        """
        try:
            if self.path.exists() and self.path.stat().st_size == self.size_bytes:
                return True
            free = self.space.free()
            if free is not None and free < self.size_bytes + self.space.min_free_bytes:
                return False
            draft = self.path.with_name(f"{self.path.name}.new")
            try:
                _fill(draft, self.size_bytes)
                draft.replace(self.path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def help_start(self) -> None:
        """A database on a full disk cannot even be opened: give the room back before that."""
        free = self.space.free()
        if free is not None and free < ROOM_TO_START_BYTES:
            self.give_back()

    def give_back(self) -> bool:
        """Remove the file; True if that made room."""
        with suppress(OSError):
            there = self.path.exists()
            self.path.unlink(missing_ok=True)
            return there
        return False


def _fill(path: Path, size_bytes: int) -> None:
    """Noise, not zeros: some file systems keep those as nothing at all."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        for start in range(0, size_bytes, _PIECE):
            file.write(os.urandom(min(_PIECE, size_bytes - start)))
        file.flush()
        os.fsync(file.fileno())
