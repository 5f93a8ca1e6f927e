"""Makes the package, and it alone, see a system without fork: the names that Windows' Python lacks are not there.

`hide` in a process replaces `os`, `signal`, `time` and `select` for modules of retirecluster, and keeps modules from
them that Windows does not have. The rest of the process (Twisted, the standard library) keeps the system as it is.
Run as a program, it is an interpreter that does so before it runs its file: `without_fork.py -I -S -X utf8 FILE ...`.
"""

from __future__ import annotations

import builtins
import os
import runpy
import select
import signal
import stat
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

ABSENT = frozenset({"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "syslog", "_posixsubprocess"})
MISSING = {
    os: {
        "fork", "forkpty", "killpg", "setsid", "getsid", "getpgid", "setpgid", "getpgrp", "getuid", "geteuid", "getgid",
        "getegid", "uname", "getloadavg", "statvfs", "sysconf", "wait", "wait3", "wait4", "waitid", "posix_spawn",
        "posix_spawnp", "chown", "fchown", "lchown", "fchmod", "mkfifo", "nice", "pread", "pwrite", "pipe2",
        "sched_getaffinity", "sched_setaffinity", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "WNOHANG",
        "WIFSIGNALED", "WTERMSIG", "WIFEXITED", "WEXITSTATUS", "prlimit", "memfd_create", "setpriority",
    },
    signal: {
        "SIGKILL", "SIGSTOP", "SIGCONT", "SIGHUP", "SIGCHLD", "SIGPIPE", "SIGXCPU", "SIGXFSZ", "SIGUSR1", "SIGUSR2",
        "SIGALRM", "SIGQUIT", "pthread_sigmask", "SIG_BLOCK", "SIG_SETMASK", "alarm", "setitimer", "sigwait",
    },
    time: {"clock_gettime", "CLOCK_MONOTONIC", "CLOCK_BOOTTIME"},
    select: {"poll", "epoll"},
}  # fmt: skip


class Less(ModuleType):
    """A module without some of its names."""

    def __init__(self, whole: ModuleType, missing: set[str]) -> None:
        super().__init__(whole.__name__)
        self.__dict__.update({name: value for name, value in vars(whole).items() if name not in missing})


def hide() -> None:
    """From now on, in this process."""
    given = {whole.__name__: Less(whole, missing) for whole, missing in MISSING.items()}
    given["os"].supports_dir_fd = set()  # type: ignore[attr-defined]
    real = builtins.__import__

    def import_less(  # the names are those of `__import__`
        name: str,
        globals: Any = None,  # noqa: A002
        locals: Any = None,  # noqa: A002
        fromlist: Any = (),
        level: int = 0,
    ) -> Any:
        ours = str((globals or {}).get("__name__", "")).startswith("retirecluster")
        if ours or _is_ours((globals or {}).get("__file__")):
            if name in ABSENT:
                raise ImportError(f"No module named {name!r}")
            if name in given:
                return given[name]
        return real(name, globals, locals, fromlist, level)

    builtins.__import__ = import_less


def _is_ours(file: object) -> bool:
    return isinstance(file, str) and "retirecluster/worker/" in file


def interpreter(folder: Path) -> str:
    """A program that is Python without fork; made in `folder`."""
    place = folder / "python-without-fork"
    place.write_text(f'#!/bin/sh\nexec {sys.executable} -I {Path(__file__)} "$0" "$@"\n')
    place.chmod(place.stat().st_mode | stat.S_IXUSR)
    return str(place)


def startup(folder: Path) -> str:
    """A folder for PYTHONPATH, whose sitecustomize has a process begin like that, and those it starts."""
    folder.mkdir()
    text = f"import sys\nsys.path.append({str(Path(__file__).parents[2])!r})\nfrom tests.worker import without_fork\n"
    text += f"without_fork.hide()\nsys.executable = {interpreter(folder)!r}\n"
    (folder / "sitecustomize.py").write_text(text)
    return str(folder)


if __name__ == "__main__":
    program = next(index for index, word in enumerate(sys.argv) if index and word.endswith(".py"))
    me, interpreter_path = Path(__file__), sys.argv[1]
    sys.argv = sys.argv[program:]
    sys.path[:] = [each for each in sys.path if each != str(me.parent)]
    hide()
    sys.executable = interpreter_path
    runpy.run_path(sys.argv[0], run_name="__main__")
