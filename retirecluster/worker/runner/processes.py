"""Reaping, killing and orphans: the parts that talk to the kernel about other processes.

A task's main process leads a session and a process group. Killing goes to the group. A process that leaves
both and whose parent dies is adopted by the runner (a subreaper, where the system has that); one that belongs
to no running task's session is killed on sight.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from resource import struct_rusage

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


def _find_prctl() -> Callable[..., int] | None:
    """The system's prctl, or None. ctypes costs 0.7 MiB once and makes orphans findable: worth it."""
    if not sys.platform.startswith(("linux", "android")):
        return None
    try:
        import ctypes

        return ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None


_prctl = _find_prctl()


def adopt_orphans() -> bool:
    """Make this process the parent of its descendants' orphans. True if the system can.

    The children do not ask to die with the runner: that call, made through ctypes in every child, costs a tenth
    of a small task. The worker kills their groups when a runner dies.
    """
    return _prctl is not None and _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


def end_with_parent() -> None:
    """Have this process killed when its parent dies, where the system can."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def kill_group(pid: int, number: int) -> None:
    """Signal the process group that `pid` leads. `pid` must not have been reaped yet."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        # Just forked: it leads no group yet.
        kill(pid, number)
    except PermissionError:  # macOS says this of a group of zombies
        pass


def kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


class Ended:
    """A process that was reaped: `code` or `signal`, processor seconds and peak memory in bytes, both with those of
    the children that it waited for itself. `session` is 0 where it is not known."""

    __slots__ = ("code", "cpu_s", "memory_peak_bytes", "pid", "session", "signal")

    def __init__(self, pid: int, status: int, usage: struct_rusage, session: int = 0) -> None:
        self.pid = pid
        self.session = session
        self.signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        self.code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else None
        self.cpu_s = usage.ru_utime + usage.ru_stime
        self.memory_peak_bytes = usage.ru_maxrss * _MAXRSS_BYTES


AT_ONCE = 64


def reap(leaders: Container[int]) -> tuple[list[Ended], bool]:
    """Reap children that have ended, and kill what is left of the group of each that is one of `leaders`.

    All of them, or about AT_ONCE while no leader is among them: a fork bomb leaves orphans faster than they are reaped.
    The second value is False if there is no child left at all.
    """
    ended: list[Ended] = []
    led = False
    try:
        while (led or len(ended) < AT_ONCE) and (one := _reap_one(leaders)) is not None:
            ended.append(one)
            led = led or one.pid in leaders
    except ChildProcessError:
        return ended, False
    return ended, True


def _reap_one(leaders: Container[int]) -> Ended | None:
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid in leaders:
            _kill_rest(pid)
        return Ended(pid, status, usage) if pid else None
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if found is None:
        return None
    # Before it is reaped, its number cannot be given to another process or group.
    pid = found.si_pid
    if pid in leaders:
        _kill_rest(pid)
        return Ended(*os.wait4(pid, 0), pid)
    session = _session(pid)
    return Ended(*os.wait4(pid, 0), session)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


def _kill_rest(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def kill_strays(known: Container[int], sessions: Container[int]) -> bool:
    """Kill adopted orphans outside every session of `sessions`. True if there were any.

    `known` are children that the runner started itself.
    """
    found = False
    for pid in _children():
        if pid in known:
            continue
        try:
            stray = os.getsid(pid) not in sessions
        except ProcessLookupError:
            continue
        if stray:
            kill(pid, signal.SIGKILL)
            found = True
    return found


def _children() -> list[int]:
    """The runner's children, adopted ones included; empty where the system does not tell."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb", buffering=0) as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def processes_of(uid: int) -> int:
    """How many threads a user has on this device, as RLIMIT_NPROC counts them."""
    count = 0
    for name in os.listdir("/proc"):
        try:
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == uid:
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue
    return count
