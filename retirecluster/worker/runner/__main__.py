"""The runner's entry: `python -I -S __main__.py SETTINGS [PATH...]`, orders on 0, reports on 1, log on 2.

SETTINGS is a JSON object: `scratch` (the folder for the tasks' folders), `level` (of isolation; 1), and from level 2 on
`root` (what of the disk its tasks may write below), `readable`, `devices`, `uid`; `enter` is the command that
makes namespaces and starts this program again in them. The paths are where packages with task types, and the packages
that scripts import, are found.
"""

from __future__ import annotations

import gc
import json
import os
import sys

_BEFORE_TASKS = -19
"""Nice value: 87 times the share of a process at 0."""

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    from retirecluster.worker.runner.fence import Fence


def _take_channel() -> tuple[int, int]:
    """Move the channel away from 0 and 1, where tasks have their own; occupy 3, which they have as well."""
    channel = _above(0), _above(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    if null != 3:
        os.dup2(null, 3, inheritable=False)
        os.close(null)
    for fd in channel:
        os.set_blocking(fd, False)
    return channel


def _above(fd: int) -> int:
    """`fd` under a number that no task uses."""
    import fcntl

    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10)


def _limit_self() -> None:
    """Soft limits that spawned tasks inherit; the hard ones stay, so that others can have more."""
    import resource

    from retirecluster.worker.runner.limits import FILE_SIZE_BYTES, RUNNER_OPEN_FILES

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for which, value in ((resource.RLIMIT_NOFILE, RUNNER_OPEN_FILES), (resource.RLIMIT_FSIZE, FILE_SIZE_BYTES)):
        hard = resource.getrlimit(which)[1]
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _go_before_tasks() -> None:
    """Where the kernel counts no processes, as for root, this program alone stops a fork bomb: it must get to run.

    The flag puts whatever is forked or spawned here back to 0. A worker whose owner made it nicer stays as it is.
    """
    if os.geteuid() == 0 and os.getpriority(os.PRIO_PROCESS, 0) == 0:
        try:
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, 0, _BEFORE_TASKS)
        except (AttributeError, OSError):  # not on this kernel, or not for this root
            return


def _hear_signals() -> int:
    """Where signals write a byte. The worker ends this program by closing the channel, and nothing else does."""
    import signal

    readable, writable = os.pipe()
    for fd in (readable, writable):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    # Blocked, not ignored: a child that is told to end before it has unblocked them still ends.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    return readable


def _refuse(reports: int, why: str) -> int:
    """No fence, no tasks."""
    os.write(reports, json.dumps({"e": "refused", "why": why}).encode() + b"\n")
    return 3


def main(arguments: list[str]) -> int:
    # Asked for by the worker: what the linker finds now, it need not find again in each child. Not for the tasks.
    os.environ.pop("LD_BIND_NOW", None)
    settings: dict[str, Any] = json.loads(arguments[0])
    # No folder of this package on the path: a task's `import limits` must not find ours.
    sys.path.extend(path for path in arguments[1:] if path not in sys.path)
    if not hasattr(os, "fork"):
        from retirecluster.worker.runner.plain import serve_plain

        return serve_plain(settings["scratch"], arguments[1:])
    from retirecluster.worker.runner.fence import Fence, NotFenced, enter, enter_group

    enter_group(settings.get("groups", {}).get("home"))
    if command := settings.pop("enter", None):
        enter(settings, [*command, json.dumps(settings), *arguments[1:]])
    if os.getsid(0) != os.getpid():  # bubblewrap has done so
        os.setsid()
    os.umask(0o077)
    os.chdir("/")
    channel = _take_channel()
    fence = Fence(settings)
    try:
        _limit_self()
        _go_before_tasks()
        _load()
        fence.put_on()
        if "prove" in settings:
            return _prove(settings, fence, channel[1])
    except NotFenced as error:
        return _refuse(channel[1], str(error))
    return _serve(settings, fence, channel)


def _prove(settings: dict[str, Any], fence: Fence, reports: int) -> int:
    """Say what holds, and leave."""
    from retirecluster.worker.runner.proving import prove
    from retirecluster.worker.runner.scratch import ScratchRoot

    scratch = ScratchRoot(settings["scratch"], fence.level)
    scratch.open()
    folder = scratch.take()
    pid = os.fork()
    if pid == 0:  # it restricts itself to the folder, and then nobody could remove that
        try:
            os.write(reports, json.dumps({"e": "proved", "layers": prove(fence, settings, folder)}).encode() + b"\n")
        except Exception as error:
            _refuse(reports, str(error))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    scratch.close()
    return 0


def _load() -> None:
    """What children need is loaded before the fence is on, and once."""
    from retirecluster.worker.runner import loop, scratch, starting

    assert loop and scratch and starting


def _serve(settings: dict[str, Any], fence: Fence, channel: tuple[int, int]) -> int:
    from retirecluster.worker.runner import processes
    from retirecluster.worker.runner.cgroups import Groups
    from retirecluster.worker.runner.child import SIDE_FD, given_variables, rehearse
    from retirecluster.worker.runner.loop import Runner
    from retirecluster.worker.runner.scratch import ScratchRoot
    from retirecluster.worker.runner.starting import Starter

    processes.adopt_orphans()
    os.environ["RETIRE_PROGRESS_FD"] = str(SIDE_FD)
    for name in given_variables("", 0):  # places that each child fills in
        os.environ[name] = ""
    rehearse()
    scratch = ScratchRoot(settings["scratch"], fence.level)
    groups = Groups(settings["groups"]) if settings.get("groups", {}).get("bases") else None
    runner = Runner(*channel, Starter(scratch, fence, groups), {"level": fence.level, "layers": fence.layers})
    wakeup = _hear_signals()
    scratch.open()
    # Objects of the runner stay out of the collector's way: a child that collects would copy all their pages.
    gc.collect()
    gc.freeze()
    runner.run(wakeup)
    return 0


if __name__ == "__main__":
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))
    sys.exit(main(sys.argv[1:]))
