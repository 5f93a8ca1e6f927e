"""The heartbeats of one connection that are not answered yet: each answer renews the lease from when its was asked."""

from __future__ import annotations

from collections import OrderedDict

from attrs import define, field

UNANSWERED_BEATS = 64


@define(eq=False)
class Beats:
    """Numbers heartbeats, and remembers when the last `UNANSWERED_BEATS` were sent (monotonic seconds)."""

    count: int = 0
    _asked_at: OrderedDict[str, float] = field(factory=OrderedDict, init=False)

    def asked(self, now_s: float) -> str:
        """One is sent now; its message id."""
        self.count += 1
        message_id = f"beat-{self.count}"
        self._asked_at[message_id] = now_s
        while len(self._asked_at) > UNANSWERED_BEATS:
            self._asked_at.popitem(last=False)
        return message_id

    def answered(self, message_id: str | None) -> float | None:
        """When the heartbeat was sent that an answer is for; None if it was answered before."""
        if message_id is not None:
            return self._asked_at.pop(message_id, None)
        # A main that does not say which one it answers: to take the oldest is on the safe side.
        return self._asked_at.popitem(last=False)[1] if self._asked_at else None
