"""Programs that are asked for what the kernel does not tell: always with a deadline, one kind of error.

Each has a session of its own, so that what it started ends with it: the tools of Termux are scripts whose children
would otherwise outlive a deadline, one more each time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess


def answer_of(program: str, *arguments: str, within_s: float = 3.0) -> str:
    """What a program prints. Raises OSError where it is not there, fails, or does not end `within_s` seconds."""
    place = shutil.which(program)
    if place is None:
        raise FileNotFoundError(f"{program} is not installed")
    with subprocess.Popen(
        [place, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            said, complaint = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            raise TimeoutError(f"{program} did not answer within {within_s:g} s") from None
    if process.returncode:
        raise OSError(f"{program} failed: {complaint.strip()[:200] or process.returncode}")
    return said


def _kill_group(process: subprocess.Popen[str]) -> None:
    """It was not waited for yet, so its number, which is its group's, is nobody else's."""
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
            return
        except OSError:  # some systems say so where all of a group have ended
            pass
    process.kill()
