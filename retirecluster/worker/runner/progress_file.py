"""Progress by a file, for programs that cannot keep a descriptor: its last whole line counts."""

from __future__ import annotations

import os
import stat

from retirecluster.worker.runner.limits import PROGRESS_FILE, PROGRESS_TAIL_BYTES
from retirecluster.worker.runner.side import read_line

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    Seen = tuple[int, int]

NEVER = (0, 0)


def read_progress(folder: str, seen: Seen) -> tuple[dict[str, Any] | None, Seen]:
    """What the file in a task's folder says if it has changed since `seen`, and what to give as `seen` next time.

    The task owns the folder: what it puts there instead of a regular file is not followed, and nobody waits for it.
    """
    try:
        fd = os.open(f"{folder}/{PROGRESS_FILE}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None, seen
    try:
        found = os.fstat(fd)
        now = found.st_mtime_ns, found.st_size
        if now == seen or not stat.S_ISREG(found.st_mode):
            return None, seen
        tail = os.pread(fd, PROGRESS_TAIL_BYTES, max(0, found.st_size - PROGRESS_TAIL_BYTES))
    except OSError:
        return None, seen
    finally:
        os.close(fd)
    return _last(tail), now


def _last(tail: bytes) -> dict[str, Any] | None:
    for line in reversed(tail.split(b"\n")):
        if line.strip():
            progress = read_line(line.strip()).get("progress")
            if progress is not None:
                return dict(progress)
    return None
