"""How often somebody may fail to log in: tokens cannot be guessed, but whoever tries shall not keep the main busy."""

from __future__ import annotations

from math import ceil

from attrs import define, field

WINDOW_S = 60.0
PER_ADDRESS, IN_ALL = 10, 100
"""Failures in a window after which an address, or everybody, has to wait for its end."""


@define(eq=False)
class LoginAttempts:
    """Counts failures by address, for one window at a time: so it stays small, whoever tries from wherever."""

    began_mono_s: float = 0.0
    _failed: dict[str, int] = field(factory=dict)
    _in_all: int = 0

    def wait_s(self, address: str, mono_s: float) -> int:
        """Whole seconds that an address has to wait before it may try; 0: it may."""
        if mono_s - self.began_mono_s >= WINDOW_S:
            self.began_mono_s, self._in_all = mono_s, 0
            self._failed.clear()
        if self._failed.get(address, 0) < PER_ADDRESS and self._in_all < IN_ALL:
            return 0
        return max(1, ceil(self.began_mono_s + WINDOW_S - mono_s))

    def failed(self, address: str) -> None:
        """An address has failed."""
        self._failed[address] = self._failed.get(address, 0) + 1
        self._in_all += 1
