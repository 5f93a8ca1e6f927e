"""Programs that are asked for what the kernel does not tell: always with a deadline, one kind of error."""

from __future__ import annotations

import shutil
import subprocess


def answer_of(program: str, *arguments: str, within_s: float = 3.0) -> str:
    """What a program prints. Raises OSError where it is not there, fails, or does not end `within_s` seconds."""
    place = shutil.which(program)
    if place is None:
        raise FileNotFoundError(f"{program} is not installed")
    try:
        said = subprocess.run(
            [place, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{program} did not answer within {within_s:g} s") from None
    except subprocess.CalledProcessError as error:
        raise OSError(f"{program} failed: {error.stderr.strip()[:200] or error.returncode}") from None
    return said.stdout
