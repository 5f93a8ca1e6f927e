"""Folders that the next attempt of a task on this device finds again.

One is made when a task that asks for it starts, and removed when the main has said that the task is over, when
nobody has used it for days, or, the oldest first, when all together are too large.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from retirecluster.domain.units import format_bytes

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
DAY_S = 86_400.0
REMOVED = ".removed-"
LEVELS = range(4)
log = Logger()


@define(eq=False)
class Checkpoints:
    """`place` and `owner` give the parent folder and the user (None: the worker's own) for an isolation level.

    `now` is wall time, as files have it; `in_thread` runs what may take long.
    """

    place: Callable[[int], Path]
    owner: Callable[[int], int | None]
    now: Callable[[], float]
    in_thread: Callable[[Callable[[], Any]], Deferred[Any]]
    keep_s: float = 7 * DAY_S
    max_bytes: int = 2**30
    _used: dict[str, int] = field(factory=dict, init=False)
    """Tasks whose attempt has a folder now, with how many attempts there are."""
    _over: set[str] = field(factory=set, init=False)
    """Those of them whose folder goes with the last of these attempts."""

    def folder(self, task_id: str, level: int) -> str:
        """The folder of a task, made if it is not there. Raises OSError, ValueError for an id that is no name."""
        if not NAME.fullmatch(task_id):
            raise ValueError(f"the task id {task_id!a} cannot name a checkpoint folder")
        root = self.place(level)
        root.mkdir(0o711 if self.owner(level) is not None else 0o700, parents=True, exist_ok=True)
        path = root / task_id
        if not path.is_dir() or path.is_symlink():
            path.unlink(missing_ok=True)
            path.mkdir(0o700)
        owner = self.owner(level)
        if owner is not None:
            os.chown(path, owner, owner, follow_symlinks=False)
        now = self.now()
        os.utime(path, (now, now), follow_symlinks=False)
        self._used[task_id] = self._used.get(task_id, 0) + 1
        return str(path)

    def left(self, task_id: str) -> None:
        """The attempt that had the folder is over."""
        count = self._used.pop(task_id, 0) - 1
        if count > 0:
            self._used[task_id] = count
        elif task_id in self._over:
            self._over.discard(task_id)
            self.forget(task_id)

    def forget(self, task_id: str) -> Deferred[Any] | None:
        """The task is over: remove its folder, if there is one; fires when it is gone.

        While an attempt still has it, which is being ended then, it waits for that.
        """
        if task_id in self._used:
            self._over.add(task_id)
        if not NAME.fullmatch(task_id) or task_id in self._used:
            return None
        found = [each for root in self._roots() if (each := root / task_id).is_dir() and not each.is_symlink()]
        return self.in_thread(lambda: _remove(*found)) if found else None

    def clean(self) -> Deferred[Any]:
        """Remove what is too old, and the oldest of what is too much; fires when that is done."""
        used = set(self._used)
        return self.in_thread(lambda: self._clean(used))

    def _clean(self, used: set[str]) -> None:
        total = 0
        known = sorted(((_changed_at(each), each) for each in self._all()), reverse=True)
        for changed_at, path in known:
            size = _size_bytes(path)
            total += size
            old = self.now() - changed_at > self.keep_s
            if path.name in used or not (old or total > self.max_bytes):
                continue
            why = "is old" if old else f"makes it more than {format_bytes(self.max_bytes)}"
            log.info("checkpoint of {task_id} is removed: it {why}", task_id=path.name, why=why)
            total -= size
            _remove(path)

    def _roots(self) -> list[Path]:
        return sorted({self.place(level) for level in LEVELS})

    def _all(self) -> Iterator[Path]:
        for root in self._roots():
            try:
                yield from (Path(each.path) for each in os.scandir(root) if each.is_dir(follow_symlinks=False))
            except OSError:
                continue


def _changed_at(path: Path) -> float:
    """When it or something directly in it was last written."""
    times = [0.0]
    for each in (path, *path.glob("*")):
        try:
            times.append(each.lstat().st_mtime)
        except OSError:
            continue
    return max(times)


def _size_bytes(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _remove(*paths: Path) -> None:
    """Under another name first: an attempt that begins now gets a new folder, and not half of this one."""
    for path in paths:
        try:
            gone = path if path.name.startswith(REMOVED) else path.rename(path.with_name(REMOVED + path.name))
        except OSError:
            gone = path
        shutil.rmtree(gone, ignore_errors=True)
