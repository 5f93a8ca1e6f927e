"""Giving memory back after files went through: the C library keeps what was freed in each thread's part of the heap."""

from __future__ import annotations

import sys
from collections.abc import Callable


def _find_trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; other libraries have none, and need none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        import ctypes

        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
        return found
    except (ImportError, OSError, AttributeError):
        return None


def give_back() -> None:
    """Return what is free to the system: some milliseconds, so for when nothing is under way."""
    trim = _find_trim()
    if trim is not None:
        trim(0)
