"""The runner's entry: `python -I -S __main__.py SCRATCH_FOLDER [PATH...]`, orders on 0, reports on 1, log on 2.

The paths are where packages with task types, and the packages that scripts import, are found.
"""

from __future__ import annotations

import gc
import os
import sys

NO_FORK = "the task runner needs a system with fork (Linux, Android, macOS, BSD); Windows is not supported yet"


def _take_channel() -> tuple[int, int]:
    """Move the channel away from 0 and 1, where tasks have their own; occupy 3, which they have as well."""
    channel = _above(0), _above(1)
    null = os.open(os.devnull, os.O_RDONLY)
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
    import resource

    from retirecluster.worker.runner.limits import RUNNER_OPEN_FILES

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    bound = RUNNER_OPEN_FILES if hard == resource.RLIM_INFINITY else min(RUNNER_OPEN_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (bound, hard))


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


def main(arguments: list[str]) -> int:
    if not hasattr(os, "fork"):
        print(NO_FORK, file=sys.stderr)
        return 2
    # No folder of this package on the path: a task's `import limits` must not find ours.
    sys.path.extend(path for path in arguments[1:] if path not in sys.path)
    from retirecluster.worker.runner import processes
    from retirecluster.worker.runner.child import SIDE_FD
    from retirecluster.worker.runner.loop import Runner
    from retirecluster.worker.runner.scratch import ScratchRoot

    os.setsid()
    os.umask(0o077)
    channel = _take_channel()
    _limit_self()
    processes.adopt_orphans()
    os.environ["RETIRE_PROGRESS_FD"] = str(SIDE_FD)
    scratch = ScratchRoot(arguments[0])
    runner = Runner(*channel, scratch)
    wakeup = _hear_signals()
    scratch.open()
    # The first compile makes the compiler's own types: once here, or a millisecond in every child.
    compile("0", "<warm up>", "eval")
    # Objects of the runner stay out of the collector's way: a child that collects would copy all their pages.
    gc.collect()
    gc.freeze()
    runner.run(wakeup)
    return 0


if __name__ == "__main__":
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))
    sys.exit(main(sys.argv[1:]))
