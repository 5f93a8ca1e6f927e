"""Control groups of attempts: made for those whose limits need one, gone with them. Version 2, or 1 as found.

The worker has found out where groups may be made, and says so: for each controller the folder below which. Putting a
process into a group costs more than forking it, so attempts without such limits have none.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

CPU_PERIOD_US = 100_000
NEEDS_GROUP = {"memory_bytes": "memory", "processes": "pids", "cpu_cores": "cpu"}
"""Limits that a group enforces, and its controller."""


class Group:
    """The group of one attempt: `folders` by controller, `doors` by which a process enters, and what was counted."""

    __slots__ = ("_folders", "_limits", "_version", "doors")

    def __init__(self, version: int, folders: dict[str, str], limits: dict[str, Any]) -> None:
        self._version = version
        self._folders = folders
        self._limits = limits
        self.doors: list[int] = []

    def make(self) -> None:
        """Raises OSError; `remove` takes away what there is."""
        for folder in dict.fromkeys(self._folders.values()):
            os.mkdir(folder)
        for controller, name, value in self.settings():
            _write(f"{self._folders[controller]}/{name}", value)
        for folder in dict.fromkeys(self._folders.values()):
            self.doors.append(os.open(f"{folder}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC))

    def settings(self) -> list[tuple[str, str, str]]:
        """Controller, file and value of each of its limits."""
        asked, found = self._limits, []
        if "memory" in self._folders:
            names = ("memory.max",) if self._version == 2 else ("memory.limit_in_bytes",)
            found += [("memory", name, str(int(asked["memory_bytes"]))) for name in names]
        if "pids" in self._folders:
            found.append(("pids", "pids.max", str(int(asked["processes"]))))
        if "cpu" in self._folders:
            quota = max(1000, int(asked["cpu_cores"] * CPU_PERIOD_US))
            if self._version == 2:
                found.append(("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}"))
            else:
                found += [("cpu", "cpu.cfs_period_us", str(CPU_PERIOD_US)), ("cpu", "cpu.cfs_quota_us", str(quota))]
        return found

    def counts(self, limit: str) -> bool:
        """Whether this limit is enforced here."""
        return NEEDS_GROUP.get(limit) in self._folders

    def used(self) -> tuple[float, int]:
        """Processor seconds and peak memory in bytes of all that ran in it; 0 where it does not count them."""
        cpu_s, peak = 0.0, 0
        if "memory" in self._folders:
            name = "memory.peak" if self._version == 2 else "memory.max_usage_in_bytes"
            peak = _number(f"{self._folders['memory']}/{name}")
        if "cpu" in self._folders and self._version == 2:
            cpu_s = _named(f"{self._folders['cpu']}/cpu.stat", "usage_usec") / 1e6
        return cpu_s, peak

    def limit_hit(self) -> str:
        """The limit for which the kernel has killed or refused something; empty if none."""
        if "memory" in self._folders:
            name = "memory.events" if self._version == 2 else "memory.oom_control"
            if _named(f"{self._folders['memory']}/{name}", "oom_kill") > 0:
                return "memory_bytes"
        if "pids" in self._folders and _named(f"{self._folders['pids']}/pids.events", "max") > 0:
            return "processes"
        return ""

    def shut(self) -> None:
        """The process is in."""
        for door in self.doors:
            os.close(door)
        self.doors.clear()

    def remove(self) -> None:
        """Its processes are gone; what the kernel will not remove yet is left to the worker."""
        self.shut()
        for folder in dict.fromkeys(self._folders.values()):
            try:
                os.rmdir(folder)
            except OSError:
                continue


class Groups:
    """Makes groups for the attempts of one runner. `settings`: `version`, and `bases`, a folder for each controller."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._version: int = settings["version"]
        self._bases: dict[str, str] = settings["bases"]
        self._count = 0

    def take(self, limits: dict[str, Any]) -> Group | None:
        """A group that enforces what it can of these limits, if there is anything. Raises OSError."""
        wanted = [each for name, each in NEEDS_GROUP.items() if name in limits and each in self._bases]
        if not wanted:
            return None
        self._count += 1
        name = f"{os.getpid()}-{self._count}"
        group = Group(self._version, {each: f"{self._bases[each]}/{name}" for each in wanted}, limits)
        try:
            group.make()
        except OSError:
            group.remove()
            raise
        return group


def _write(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _read(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(4096).decode()
    except OSError:
        return ""


def _number(path: str) -> int:
    text = _read(path).strip()
    return int(text) if text.isdigit() else 0


def _named(path: str, name: str) -> int:
    for line in _read(path).splitlines():
        word, _, value = line.partition(" ")
        if word == name and value.strip().isdigit():
            return int(value)
    return 0
