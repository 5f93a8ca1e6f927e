"""Processes of an earlier life: a worker and its runner that were killed together may leave tasks' children.

A session whose leader is dead keeps its number as long as it has members, so the members of a session whose
number the journal has are ours, if the leader is gone or began when the journal says.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from retirecluster.worker.journal import Remembered
from retirecluster.worker.runner.trees import KILL, end_tree

TOLERANCE_S = 3.0


def kill_leftovers(found: Iterable[Remembered], boot_s: float, proc: Path = Path("/proc")) -> list[int]:
    """Kill what still lives of remembered attempts; the process ids. `boot_s` is now, in seconds since boot."""
    began = {each.process: each.began_s for each in found if each.process is not None and each.began_s is not None}
    # A journal from before the last boot: its numbers mean other processes now.
    began = {pid: began_s for pid, began_s in began.items() if began_s <= boot_s}
    if not began or not hasattr(os, "sysconf"):  # without /proc nothing tells a number's old owner from its new one
        return []
    members = [each for each in _processes(proc) if each[1] in began]
    killed = []
    for pid, session, start_s in members:
        expected_s = began[session]
        reused = any(other == session and abs(start - expected_s) > TOLERANCE_S for other, _, start in members)
        if not reused and start_s >= expected_s - TOLERANCE_S and pid != os.getpid():
            _kill(pid)
            killed.append(pid)
    return killed


def kill_group(pid: int) -> None:
    """Kill what is left of the process group of a task whose runner has died."""
    end_tree(pid)


def kill_marked(marker: str, proc: Path = Path("/proc")) -> list[int]:
    """Kill what has this text (as `NAME=value`) in the environment that its program was started with; their ids.

    What left its session and its parents behind still has it, unless it has changed its environment on purpose.
    """
    wanted = marker.encode()
    killed = []
    for place in proc.glob("[0-9]*"):
        try:
            found = wanted in (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if found and int(place.name) != os.getpid():
            _kill(int(place.name))
            killed.append(int(place.name))
    return killed


def _processes(proc: Path) -> Iterable[tuple[int, int, float]]:
    """Process id, session and start in seconds after boot, of every process that can be seen."""
    ticks = os.sysconf("SC_CLK_TCK")
    for place in proc.glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            yield int(place.name), int(fields[3]), int(fields[19]) / ticks
        except (OSError, ValueError, IndexError):
            continue


def _kill(pid: int) -> None:
    try:
        os.kill(pid, KILL)
    except (ProcessLookupError, PermissionError):
        return
