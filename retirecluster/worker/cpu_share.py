"""A part of the processors for tasks: `max_cpu_share`. The kernel keeps them to it, whatever they start."""

from __future__ import annotations

import os
from collections.abc import Iterable

from attrs import define, field
from twisted.logger import Logger

CAN_LIMIT = hasattr(os, "sched_setaffinity")


def allowed(share: float | None, processors: Iterable[int]) -> set[int]:
    """The processors that make up a share, at least one: the lowest numbers, which on phones are the cool ones."""
    every = sorted(processors)
    return set(every if share is None else every[: max(1, int(share * len(every) + 1e-9))])


@define(eq=False)
class CpuShare:
    """Keeps this process, and what it starts from then on, on a share of the processors that it had at its start."""

    log = Logger()
    _had: frozenset[int] = field(init=False)
    _now: set[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._had = frozenset(os.sched_getaffinity(0)) if CAN_LIMIT else frozenset(range(os.cpu_count() or 1))
        self._now = set(self._had)

    @property
    def count(self) -> int:
        """How many processors tasks may use."""
        return len(self._now)

    def limit(self, share: float | None, runners: Iterable[int] = ()) -> None:
        """Change the share; `runners` are processes that start tasks, and run already."""
        wanted = allowed(share, self._had)
        if wanted == self._now:
            return
        self._now = wanted
        for pid in (0, *runners) if CAN_LIMIT else ():
            try:
                os.sched_setaffinity(pid, wanted)
            except OSError as error:  # it ended just now, or the system reserves processors
                self.log.warn("process {pid} keeps its processors: {why}", pid=pid, why=str(error))
