"""Caps on the connections of the port for workers."""

from __future__ import annotations

from collections import Counter

from attrs import define, field


@define(eq=False)
class Limits:
    """Caps on connections, in all and from one address."""

    total: int
    per_host: int
    open: Counter[str] = field(factory=Counter)

    def enter(self, host: str) -> bool:
        """One more; False if it must not be."""
        if self.open.total() >= self.total or self.open[host] >= self.per_host:
            return False
        self.open[host] += 1
        return True

    def leave(self, host: str) -> None:
        """One less."""
        self.open[host] -= 1
        if not self.open[host]:
            del self.open[host]
