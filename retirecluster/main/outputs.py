"""What running tasks print, kept in memory for those who watch. The end of it is in the result."""

from __future__ import annotations

from collections import deque
from typing import Any

from attrs import define, field

CAP_CHARS = 1_000_000
"""Kept for each running attempt; older pieces are dropped."""
TOTAL_CAP_CHARS = 64_000_000
PIECE_CHARS = 200
"""What a piece costs beside its text."""
ENDED_KEPT = 64
"""Tasks that have ended whose pieces are still kept."""


@define(eq=False)
class LiveOutput:
    epoch: int
    chunks: deque[dict[str, Any]] = field(factory=deque)
    size_chars: int = 0
    next_seq: int = 0


@define(eq=False)
class OutputBoard:
    """Pieces of output by task id."""

    by_task: dict[str, LiveOutput] = field(factory=dict)
    total_chars: int = 0
    _ended: deque[str] = field(factory=deque)

    def add(self, task_id: str, epoch: int, seq: int, stream: str, data: str) -> bool:
        """Keep a piece; False if it came before."""
        live = self.by_task.get(task_id)
        if live is None or live.epoch != epoch:
            self.forget(task_id)
            live = self.by_task[task_id] = LiveOutput(epoch)
        if seq < live.next_seq:
            return False
        live.next_seq = seq + 1
        live.chunks.append({"seq": seq, "stream": stream, "data": data})
        self._grow(live, len(data) + PIECE_CHARS)
        cap = CAP_CHARS if self.total_chars < TOTAL_CAP_CHARS else 0
        while live.size_chars > cap and len(live.chunks) > 1:
            self._grow(live, -len(live.chunks.popleft()["data"]) - PIECE_CHARS)
        return True

    def read(self, task_id: str, from_seq: int) -> tuple[int, list[dict[str, Any]], int] | None:
        """(epoch, pieces from `from_seq` on, the next seq) of a task that printed something, or None."""
        live = self.by_task.get(task_id)
        if live is None:
            return None
        return live.epoch, [chunk for chunk in live.chunks if chunk["seq"] >= from_seq], live.next_seq

    def ended(self, task_id: str) -> None:
        """The task has ended; those who watch may still fetch the last pieces for a while."""
        if task_id in self.by_task:
            self._ended.append(task_id)
            if len(self._ended) > ENDED_KEPT:
                self.forget(self._ended.popleft())

    def forget(self, task_id: str) -> None:
        live = self.by_task.pop(task_id, None)
        if live is not None:
            self.total_chars -= live.size_chars

    def _grow(self, live: LiveOutput, chars: int) -> None:
        live.size_chars += chars
        self.total_chars += chars
