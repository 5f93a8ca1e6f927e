"""How a warm process gives itself back clean: everything that one task could leave for the next.

What cannot be restored is a reason to replace the process. What is shared on purpose is the interpreter: modules
that were imported stay, as the task has left them.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import builtins
import gc
import io
import os
import resource
import sys

from retirecluster.worker.runner.child import SIDE_FD

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any, TextIO

_SIGNALS = tuple(number for number in range(1, _signal.NSIG) if number not in (_signal.SIGKILL, _signal.SIGSTOP))
_LIMITS = tuple(
    getattr(resource, f"RLIMIT_{name}")
    for name in ("NOFILE", "FSIZE", "AS", "DATA", "STACK", "NPROC", "CORE")
    if hasattr(resource, f"RLIMIT_{name}")
)
_BUILTINS = ("exit", "quit", "print", "open", "input")
_TIMERS = tuple(getattr(_signal, name) for name in ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF"))
_MISSING = object()
ALWAYS_SET = 2
"""Variables that every task sets (its id and epoch) are left for the next one to set."""
MANY_FILES = 100
"""A process whose task has left more is replaced: its folder is then removed in the background."""
FIRST_FD = 20
"""Our own copies of descriptors are above this, out of the way of tasks."""


def threads_left() -> bool:
    """Whether Python threads other than this one run."""
    return _thread._count() > 0


def children_left() -> bool:
    """Whether there are child processes, zombies included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


class Restorer:
    """Remembers how the process was when it was made. `outputs` are its own copies of the pipes that tasks write to."""

    DIRTY = "what a task left cannot be taken away"

    def __init__(self, folder: str) -> None:
        import fcntl

        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._files = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FD) for fd in range(SIDE_FD + 1))
        self.outputs = self._files[1:]
        self._environ: Any = os.environ
        self._variables = self._expected = dict(os.environ)
        self._own_variables = 0
        self._streams = _Streams()
        self._argv = list(sys.argv)
        self._path = list(sys.path)
        self._main = sys.modules["__main__"]
        self._hooks = sys.excepthook, sys.displayhook
        self._recursion = sys.getrecursionlimit()
        self._builtins = {name: vars(builtins).get(name, _MISSING) for name in _BUILTINS}
        self._handlers = tuple(map(_signal.getsignal, _SIGNALS))
        self._frozen = self._what_stays()

    def _what_stays(self) -> tuple[Any, ...]:
        """What a task may change for good: then the process is replaced."""
        mode = os.fstat(self._folder)
        return (
            [resource.getrlimit(each) for each in _LIMITS],
            os.getpriority(os.PRIO_PROCESS, 0),
            os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None,
            os.geteuid(),
            mode.st_mode,
            mode.st_nlink > 0,
        )

    def begin(self, variables: dict[str, str], stdin: bool) -> None:
        """Set what is the task's own. `stdin`: whether it brings something to read."""
        data = self._environ._data  # what `environ` encodes and decodes at each look
        for name, value in variables.items():
            self._environ[name] = value
        self._own_variables = len(variables)
        self._expected = dict(data)
        self._streams.stdin_is_used = stdin

    def restore(self) -> str:
        """Take away what the task has left; why the process has to be replaced, or nothing.

        Not the few hundred bytes for which the C library keeps each value that a variable ever had: for these, too,
        a process is replaced after a number of tasks.
        """
        if threads_left() or children_left():
            return self.DIRTY
        try:
            self._restore_process()
            self._restore_interpreter()
            return "" if self._empty_folder() and self._what_stays() == self._frozen else self.DIRTY
        except (OSError, ValueError, RuntimeError, TypeError, AttributeError):
            return self.DIRTY

    def _restore_process(self) -> None:
        for fd, kept in enumerate(self._files):
            os.dup2(kept, fd)
        os.fchdir(self._folder)
        os.umask(0o077)
        for timer in _TIMERS:
            _signal.setitimer(timer, 0)
        _signal.set_wakeup_fd(-1)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        now = tuple(map(_signal.getsignal, _SIGNALS))
        if now != self._handlers:
            for number, handler, before in zip(_SIGNALS, now, self._handlers, strict=True):
                if handler is not before:
                    _signal.signal(number, before)

    def _restore_interpreter(self) -> None:
        os.environ = self._environ  # noqa: B003
        if self._environ._data != self._expected or self._own_variables > ALWAYS_SET:
            _set_all(self._environ, self._variables)
        self._streams.restore()
        sys.argv = list(self._argv)
        if sys.path != self._path:
            sys.path = list(self._path)
        sys.modules["__main__"] = self._main
        sys.excepthook, sys.displayhook = self._hooks
        sys.settrace(None)
        sys.setprofile(None)
        if sys.getrecursionlimit() != self._recursion:
            sys.setrecursionlimit(self._recursion)
        for name, value in self._builtins.items():
            if value is _MISSING:
                vars(builtins).pop(name, None)
            else:
                setattr(builtins, name, value)
        gc.enable()

    def _empty_folder(self) -> bool:
        """The folder that tasks of this process share is empty when one begins."""
        names = os.listdir(self._folder)
        if not names or len(names) > MANY_FILES:
            return not names
        import shutil

        for name in names:
            try:
                os.unlink(name, dir_fd=self._folder)
            except (IsADirectoryError, PermissionError):
                shutil.rmtree(name, ignore_errors=True)  # the current folder is this one
        return not os.listdir(self._folder)


class _Streams:
    """`sys.stdin`, `sys.stdout` and `sys.stderr` as they were made, or made again where a task has broken them."""

    def __init__(self) -> None:
        self._stdin = sys.stdin
        self.stdin_is_used = False
        self._texts: list[TextIO] = [sys.stdout, sys.stderr]
        self._how = [(each.encoding, each.errors) for each in self._texts]

    def restore(self) -> None:
        for index, text in enumerate(self._texts):
            encoding, errors = self._how[index]
            if _is_broken(text) or (text.encoding, text.errors) != (encoding, errors):
                raw = io.FileIO(index + 1, "w", closefd=False)
                self._texts[index] = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
        if self.stdin_is_used or self._stdin is None or self._stdin.closed or sys.stdin is not self._stdin:
            self._stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8", "surrogateescape")
        sys.stdin, (sys.stdout, sys.stderr) = self._stdin, self._texts
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore


def _is_broken(text: TextIO) -> bool:
    try:
        text.flush()
        return text.closed or text.buffer.closed
    except (ValueError, OSError, AttributeError):
        return True


def _set_all(environ: Any, wanted: dict[str, str]) -> None:
    for name in [name for name in environ if name not in wanted]:
        del environ[name]
    for name, value in wanted.items():
        if environ.get(name) != value:
            environ[name] = value
