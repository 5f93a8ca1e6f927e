"""The processes below one, as /proc tells them: what they use, and which threads they have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

PROC = Path("/proc")
TIMES = slice(11, 15)
"""Of the fields after the name: own time in user and system mode, and that of children that were waited for."""


@frozen
class Usage:
    """What a tree of processes has used and does. `cpu_s` counts a process that ended with its parent: it
    grows only, as long as nobody leaves the tree, which the runner sees to where the system lets it (Linux)."""

    cpu_s: float
    runnable: int
    """Threads that run or wait for a processor, of those below the root."""
    blocked: int
    """Threads that wait for a disk, say: they count in the load average, too."""


def usage_of(pid: int, proc: Path = PROC) -> Usage | None:
    """Of a process and all below it; None where the system does not tell."""
    root = _fields(proc / str(pid) / "stat")
    if root is None:
        return None
    used, states = _cpu_s(root), list[str]()
    for each in descendants(pid, proc):
        fields = _fields(proc / str(each) / "stat")
        if fields is not None:
            used += _cpu_s(fields)
            states += [said[0] for said in map(_fields, _stats_of_threads(each, proc)) if said]
    return Usage(used, states.count("R"), states.count("D"))


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """All processes below one; those that come or go meanwhile may be missing."""
    direct = (proc / str(pid) / "task" / str(pid) / "children").exists()
    children = None if direct else _by_parent(proc)
    found, waiting = list[int](), [pid]
    while waiting:
        parent = waiting.pop()
        below = list(_children(parent, proc)) if children is None else children.get(parent, [])
        found += below
        waiting += below
    return found


def threads_of(pid: int, proc: Path = PROC) -> list[int]:
    try:
        return [int(name) for name in os.listdir(proc / str(pid) / "task")]
    except OSError:
        return []


def _children(pid: int, proc: Path) -> Iterator[int]:
    for thread in threads_of(pid, proc):
        try:
            text = (proc / str(pid) / "task" / str(thread) / "children").read_text("ascii")
        except OSError:
            continue
        yield from map(int, text.split())


def _by_parent(proc: Path) -> dict[int, list[int]]:
    """Where the kernel lists no children: all processes by their parents."""
    found: dict[int, list[int]] = {}
    for place in proc.iterdir():
        fields = _fields(place / "stat") if place.name.isdigit() else None
        if fields is not None:
            found.setdefault(int(fields[1]), []).append(int(place.name))
    return found


def _stats_of_threads(pid: int, proc: Path) -> Iterator[Path]:
    return (proc / str(pid) / "task" / str(thread) / "stat" for thread in threads_of(pid, proc))


def _fields(stat: Path) -> list[str] | None:
    """What stands after the name, which may have anything in it: the state, the parent, ..."""
    try:
        text = stat.read_text("utf-8", "replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _cpu_s(fields: list[str]) -> float:
    return sum(map(int, fields[TIMES])) / float(os.sysconf("SC_CLK_TCK"))
