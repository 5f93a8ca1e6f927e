"""Windows. It can be described, but the task runner needs fork: a worker does not start there yet."""

from __future__ import annotations

from retirecluster.platforms.base import Platform


class Windows(Platform):
    """A PC."""

    name = "windows"

    def memory_total(self) -> int | None:
        return None

    def load_average(self) -> list[float] | None:
        return None
