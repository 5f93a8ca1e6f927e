"""A part of the processors for tasks: `max_cpu_share`. The kernel keeps them to it, whatever they start."""

from __future__ import annotations

import os
from collections.abc import Iterable

from attrs import define, field
from twisted.logger import Logger

from retirecluster.worker.process_tree import descendants, threads_of

CAN_LIMIT = hasattr(os, "sched_setaffinity")
PASSES = 5
"""What starts while the processes are gone through is found the next time, and has its parent's processors."""


def allowed(share: float | None, processors: Iterable[int]) -> set[int]:
    """The processors that make up a share, at least one: the lowest numbers, which on phones are the cool ones."""
    every = sorted(processors)
    return set(every if share is None else every[: max(1, int(share * len(every) + 1e-9))])


@define(eq=False)
class CpuShare:
    """Keeps this process and all below it, running tasks and warm processes too, on a share of the processors that it
    had at its start."""

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

    @property
    def had(self) -> int:
        """How many processors this process may use without a share."""
        return len(self._had)

    def limit(self, share: float | None) -> None:
        """Change the share."""
        wanted = allowed(share, self._had)
        if wanted == self._now:
            return
        self._now = wanted
        if CAN_LIMIT:
            os.sched_setaffinity(0, wanted)  # so that it holds for what starts meanwhile
            self._move(wanted)

    def _move(self, wanted: set[int]) -> None:
        own, moved = os.getpid(), set[int]()
        for _ in range(PASSES):
            found = {each for pid in (own, *descendants(own)) for each in threads_of(pid)} - moved
            if not found:
                return
            moved |= found
            for thread in found:
                try:
                    os.sched_setaffinity(thread, wanted)
                except ProcessLookupError:
                    continue
                except OSError as error:  # the system reserves processors
                    self.log.warn("thread {thread} keeps its processors: {why}", thread=thread, why=str(error))
