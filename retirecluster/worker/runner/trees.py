"""Ending a process with everything below it, where there are no process groups to signal (Windows)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

OWN_SESSION = os.name == "posix"
CREATION_FLAGS = 0 if OWN_SESSION else 0x0000_0200
"""What `Popen` is told, so that a task's processes can be told from others (CREATE_NEW_PROCESS_GROUP)."""
TERMINATE = signal.SIGTERM
KILL = 9 if os.name == "posix" else signal.SIGTERM
"""The second ends a process at once on Windows, too."""
ENDS_WITHIN_S = 10.0


def end_tree(pid: int, number: int = KILL) -> None:
    """Signal a process that was started so, and what came from it. On Windows that ends it at once."""
    if os.name == "posix":
        try:
            os.kill(-pid, number)
        except (ProcessLookupError, PermissionError):
            return
    elif sys.platform == "win32":
        command = ["taskkill", "/T", "/F", "/PID", str(pid)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=ENDS_WITHIN_S, check=False)
        except (OSError, subprocess.SubprocessError):
            os.kill(pid, TERMINATE)
