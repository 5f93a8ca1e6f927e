"""Where control groups may be made on this device: below the worker's own group, where that was delegated to it.

Version 2 with its controllers comes first, as systemd gives it (`Delegate=yes`); on systems that still have version 1,
memory, pids and cpu are used as found. A group of version 2 needs no controllers to be killed whole: that is used for
each runner, wherever it can be had.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

WANTED = ("memory", "pids", "cpu")
ROOM = "retirecluster"
CLEAR_TRIES, CLEAR_PAUSE_S = 25, 0.02


@frozen
class CgroupTree:
    """`bases` are folders below which groups can be made, by controller; `homes` one in which a runner can live."""

    version: int = 0
    bases: Mapping[str, Path] = field(factory=dict)
    homes: Path | None = None
    why_not: str = ""

    def for_level(self, level: int, uid: int | None) -> dict[str, Any]:
        """What a runner of this level is told; empty where there is nothing. Raises OSError."""
        told: dict[str, Any] = {}
        if self.bases:
            bases = {name: _made(base / f"level-{level}", uid) for name, base in self.bases.items()}
            told = {"version": self.version, "bases": {name: str(base) for name, base in bases.items()}}
            if self.version == 2:
                _enable(next(iter(bases.values())))
        if self.homes is not None:
            told["home"] = str(_made(self.homes / f"level-{level}" / "runner", uid))
        return told

    def kill(self, level: int) -> None:
        """End everything that came from the runner of this level, whatever it did to get away."""
        if self.homes is not None:
            with contextlib.suppress(OSError):
                (self.homes / f"level-{level}" / "cgroup.kill").write_text("1")

    def clear(self) -> None:
        """Take away the groups of an earlier life, whose processes were just killed and may need a moment to go."""
        for _ in range(CLEAR_TRIES):
            if not any(self._remove(base, keep=True) for base in self._roots()):
                return
            time.sleep(CLEAR_PAUSE_S)

    def remove(self) -> None:
        """Nothing runs any more: take the groups away."""
        for base in self._roots():
            self._remove(base, keep=False)

    def _roots(self) -> set[Path]:
        return {*self.bases.values(), *([] if self.homes is None else [self.homes])}

    @staticmethod
    def _remove(base: Path, *, keep: bool) -> bool:
        """Remove what is below a folder, and without `keep` the folder; whether something is left below."""
        left = False
        for folder, _, _ in os.walk(base, topdown=False):
            if keep and folder == str(base):
                continue
            try:
                os.rmdir(folder)
            except OSError:
                left = True
        return left


def find_tree(name: str, root: Path = Path("/")) -> CgroupTree:
    """What this process may use; `name` keeps workers on one device apart, `root` is where /proc and /sys are found."""
    try:
        mounts = _mounts((root / "proc/self/mounts").read_text("utf-8", "replace"), root)
        own = _own_groups((root / "proc/self/cgroup").read_text("utf-8", "replace"))
    except OSError as error:
        return CgroupTree(why_not=f"control groups cannot be found: {error.strerror}")
    whole = mounts.get("")
    at_home = None if whole is None else whole / own.get("", "/").lstrip("/")
    if at_home is not None and set(WANTED) <= set(_words(at_home / "cgroup.controllers")):
        return _version_2(at_home, name)
    homes = None if at_home is None else _try_make(at_home / f"{ROOM}-{name}")
    bases = {}
    for controller in WANTED:
        if controller in mounts:
            base = _try_make(mounts[controller] / own.get(controller, "/").lstrip("/") / f"{ROOM}-{name}")
            if base is not None:
                bases[controller] = base
    why_not = "" if bases else "the worker may make no groups here; under systemd, Delegate=yes lets it"
    return CgroupTree(1, bases, homes, why_not)


def _version_2(own: Path, name: str) -> CgroupTree:
    """A group with processes in it cannot give its controllers to others: the worker moves into one of its own."""
    others = set(_words(own / "cgroup.procs")) - {str(os.getpid())}
    if others:
        return CgroupTree(2, why_not="the worker's group has other processes in it; run it as a service of its own")
    try:
        worker = _made(own / "worker", None)
        (worker / "cgroup.procs").write_text("0")
        _enable(own)
        base = _made(own / f"{ROOM}-{name}", None)
        _enable(base)
    except OSError as error:
        return CgroupTree(2, why_not=f"the worker's group was not delegated to it: {error.strerror}")
    return CgroupTree(2, dict.fromkeys(WANTED, base), base)


def _enable(folder: Path) -> None:
    (folder / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in WANTED))


def _made(folder: Path, uid: int | None) -> Path:
    folder.mkdir(0o755, parents=True, exist_ok=True)
    if uid is not None:
        for place in (folder, *(folder / each for each in ("cgroup.procs", "cgroup.subtree_control", "tasks"))):
            with contextlib.suppress(FileNotFoundError):
                os.chown(place, uid, -1)
    return folder


def _try_make(folder: Path) -> Path | None:
    try:
        return _made(folder, None)
    except OSError:
        return None


def _mounts(text: str, root: Path) -> dict[str, Path]:
    """Where each controller of version 1 is mounted, and version 2 under the empty name."""
    found: dict[str, Path] = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        place = root / fields[1].lstrip("/")
        if fields[2] == "cgroup2":
            found.setdefault("", place)
        elif fields[2] == "cgroup":
            for option in fields[3].split(","):
                if option in WANTED:
                    found.setdefault(option, place)
    return found


def _own_groups(text: str) -> dict[str, str]:
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _words(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").split()
    except OSError:
        return []
