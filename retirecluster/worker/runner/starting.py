"""How a job becomes a process: forked, or, where that gives the same guarantees, spawned, which costs less.

A command without wishes of its own is spawned: the limits that every task has are inherited from the runner as soft
limits, so they hold from the first instruction, and become hard ones at once. Everything else is forked, and sets
itself up before it runs a line of the task.
"""

from __future__ import annotations

import os
import resource
import signal

from retirecluster.worker.runner import limits
from retirecluster.worker.runner.behaviours import NEEDS_NO_SCRATCH, command_argv
from retirecluster.worker.runner.child import SIDE_FD, become_task, given_variables

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    from retirecluster.worker.runner.cgroups import Group, Groups
    from retirecluster.worker.runner.fence import Fence
    from retirecluster.worker.runner.scratch import ScratchRoot

_SPAWNS = hasattr(os, "posix_spawnp") and hasattr(resource, "prlimit")
_DEFAULT_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ]


class Started:
    """A process and what it was given: `pipes` are the read ends of stdout, stderr and side."""

    __slots__ = ("folder", "group", "own_folder", "pid", "pipes")

    def __init__(self, pid: int, pipes: tuple[int, int, int], folder: str | None, own: bool, group: Group | None):
        self.pid = pid
        self.pipes = pipes
        self.folder = folder
        self.own_folder = own
        """Whether the folder is the runner's to remove."""
        self.group = group


class CannotStart(Exception):
    """The program of a command cannot be run: another attempt would end the same way. `kind` is the error's."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Starter:
    """Starts the jobs of one runner, behind its fence."""

    def __init__(self, scratch: ScratchRoot, fence: Fence, groups: Groups | None) -> None:
        self._scratch = scratch
        self._fence = fence
        self._groups = groups
        self._pid = os.getpid()
        self._spawns = _SPAWNS and fence.spawns

    def start(self, job: dict[str, Any], fds: int, channel: int = -1) -> Started:
        """A running process; all descriptors of the runner are up to `fds`. Raises OSError, CannotStart.

        `channel` is a socket for a warm process, or -1.
        """
        folder: str | None = job.get("folder")
        own = folder is None and job["type"] not in NEEDS_NO_SCRATCH
        if own:
            folder = self._scratch.take()
        pipes: list[int] = []
        group = None
        try:
            group = self._groups.take(job["limits"]) if self._groups is not None and "limits" in job else None
            for _ in range(3):
                pipes.extend(os.pipe())
            ends = pipes[1], pipes[3], pipes[5]
            if self._spawns and self._is_plain_command(job):
                pid = self._spawn(job, ends, folder)
            else:
                pid = self._fork(job, ends, folder, max(fds, *pipes) + 1, group, channel)
        except BaseException:
            for fd in pipes:
                os.close(fd)
            if own and folder is not None:
                self._scratch.give_back(folder)
            if group is not None:
                group.remove()
            raise
        for fd in ends:
            os.close(fd)
        return Started(pid, (pipes[0], pipes[2], pipes[4]), folder, own, group)

    def _fork(
        self,
        job: dict[str, Any],
        ends: tuple[int, int, int],
        folder: str | None,
        fds: int,
        group: Group | None,
        channel: int,
    ) -> int:
        checkpoint: str | None = job.get("checkpoint")
        if checkpoint is None:
            rules = self._fence.rules_for(folder)
        else:
            rules = self._fence.rules_with([each for each in (folder, checkpoint) if each is not None])
        try:
            pid = os.fork()
            if pid == 0:
                become_task(job, ends, folder, self._pid, max(fds, rules + 1), rules, group, channel)
        finally:
            if checkpoint is not None and rules >= 0:
                os.close(rules)
        if group is not None:
            group.shut()
        return pid

    def _is_plain_command(self, job: dict[str, Any]) -> bool:
        payload = job["payload"]
        plain = job["type"] == "command" and "entry" not in job and "limits" not in job
        return plain and not payload.get("stdin") and "PATH" not in job["env"]

    def _spawn(self, job: dict[str, Any], ends: tuple[int, int, int], folder: str | None) -> int:
        try:
            argv = command_argv(job["payload"])
        except ValueError as error:
            raise CannotStart("payload", f"the command cannot be split: {error}") from None
        environ = {**os.environ, **job["env"], **given_variables(folder, os.fstat(ends[2]).st_ino)}
        dup = os.POSIX_SPAWN_DUP2
        actions = [(dup, ends[0], 1), (dup, ends[1], 2), (dup, ends[2], SIDE_FD)]
        files = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.chdir(folder or "/")
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits.OPEN_FILES, files[1]), files[1]))
        try:
            pid = os.posix_spawnp(
                argv[0], argv, environ, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT_SIGNALS
            )
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) in limits.SCARCE:
                raise
            reason = getattr(error, "strerror", None) or str(error)
            raise CannotStart("exec", f"{argv[0]!r} cannot be run: {reason}") from None
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, files)
            os.chdir("/")
        _harden(pid)
        return pid

    def end(self, started: Started) -> int | None:
        """Its processes are gone. What it left is removed by a process, whose id is returned."""
        if started.group is not None:
            started.group.remove()
        if started.folder is None:
            return None
        cleaner = self._scratch.give_back(started.folder) if started.own_folder else None
        if cleaner is not None or not started.own_folder:
            self._fence.forget(started.folder)
        return cleaner

    def close(self) -> None:
        self._scratch.close()


def _harden(pid: int) -> None:
    """What a spawned process inherited as soft limits it may not raise any more."""
    for which, value in ((resource.RLIMIT_NOFILE, limits.OPEN_FILES), (resource.RLIMIT_FSIZE, limits.FILE_SIZE_BYTES)):
        hard = resource.getrlimit(which)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.prlimit(pid, which, (bound, bound))
        except (ProcessLookupError, PermissionError):  # it has ended, or is a setuid program, which root alone limits
            return
