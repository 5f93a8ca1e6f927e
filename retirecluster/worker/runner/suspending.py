"""Stopping all processes of an attempt where they stand, and letting them go on.

Only processes that are there at that moment are signalled, each time read anew: a list from before could name numbers
that others have by now.
"""

from __future__ import annotations

import signal

from retirecluster.worker.runner import processes
from retirecluster.worker.runner.watching import find_trees

PASSES = 20
"""A tree that forks while it is being stopped is read again, until nothing new is found."""


def stop_tree(leader: int) -> None:
    """Stop the whole tree of a task; those that fork meanwhile are caught by the next pass."""
    processes.kill_group(leader, signal.SIGSTOP)
    stopped: set[int] = set()
    for _ in range(PASSES):
        fresh = [pid for pid in _tree(leader) if pid not in stopped]
        if not fresh:
            return
        for pid in fresh:
            processes.kill(pid, signal.SIGSTOP)
        stopped.update(fresh)


def continue_tree(leader: int) -> None:
    """Let everything of a task go on that is there now."""
    for pid in _tree(leader):
        processes.kill(pid, signal.SIGCONT)
    processes.kill_group(leader, signal.SIGCONT)


def _tree(leader: int) -> list[int]:
    try:
        return find_trees([leader])[leader].pids
    except OSError:  # a system without /proc: there is the process group
        return []
