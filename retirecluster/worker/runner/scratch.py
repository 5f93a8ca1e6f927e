"""The private folder of each attempt: its working directory, gone after it.

Making and removing a folder costs more than half of what a small task costs otherwise. So a folder that is
still empty after its attempt, and as private as it was, serves the next one.
"""

from __future__ import annotations

import os
import time


class ScratchRoot:
    """Where the folders are. Each runner has its own part below `root`, beside those of other levels."""

    def __init__(self, root: str, level: int = 1) -> None:
        self._root = root
        self._prefix = f"run-{level}-"
        # Not the process alone: in a namespace of its own each runner has the same number.
        self._mine = os.path.join(root, f"{self._prefix}{os.getpid()}-{time.time_ns():x}")
        self._unused: list[str] = []
        self._count = 0

    def open(self) -> None:
        """Make this runner's part; what runners before it left behind is removed in the background."""
        os.makedirs(self._root, 0o700, exist_ok=True)
        left = [name for name in os.listdir(self._root) if name.startswith(self._prefix)]
        os.makedirs(self._mine, 0o700, exist_ok=True)
        if left:
            _remove_in_background([os.path.join(self._root, name) for name in left])

    def take(self) -> str:
        """An empty folder that nobody else uses."""
        if self._unused:
            return self._unused.pop()
        self._count += 1
        path = f"{self._mine}/{self._count}"
        os.mkdir(path, 0o700)
        return path

    def give_back(self, path: str) -> int | None:
        """The attempt is over. What it left is removed by a process, whose id is returned."""
        try:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError:
            return _remove_in_background([path])
        try:
            if not os.listdir(folder):
                os.fchmod(folder, 0o700)
                self._unused.append(path)
                return None
        except OSError:
            pass
        finally:
            os.close(folder)
        return _remove_in_background([path])

    def close(self) -> None:
        """Remove this runner's part. Called when no task runs any more, so waiting is fine."""
        _remove(self._mine)


def _remove_in_background(paths: list[str]) -> int:
    """A task may leave a million files: removing them must not stop the loop."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for path in paths:
                _remove(path)
        finally:
            os._exit(0)
    return pid


def _remove(path: str) -> None:
    import shutil

    def unlock(function: object, name: str, _: object) -> None:
        """A task may have made a folder that even its owner cannot list or change."""
        for each in (os.path.dirname(name), name):
            try:
                os.chmod(each, 0o700, follow_symlinks=False)
            except (OSError, NotImplementedError):
                continue

    shutil.rmtree(path, onerror=unlock)
    # What was locked at the first pass is open now.
    shutil.rmtree(path, ignore_errors=True)
