"""Windows. Each task starts an interpreter or a program of its own: processes cannot be forked there."""

from __future__ import annotations

from retirecluster.platforms.base import Platform, Ways


class Windows(Platform):
    """A PC."""

    name = "windows"

    def ways(self) -> Ways:
        """There is no sysconf: psutil tells of the memory."""
        ways = super().ways()
        del ways["memory_total"]
        return ways

    def load_average(self) -> list[float] | None:
        return None
