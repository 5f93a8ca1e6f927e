"""How long all must be well before a device works again: longer, the sooner one pause follows another. Pure.

Thresholds keep a reading that wavers from switching a device on and off. They do not help where the device's own work
brings the pause about (it gets hot, rests, cools down, works, gets hot), where a plug is loose, or where a reading
swings by more than the gap. So each pause that begins within `SOON_S` of the end of the one before doubles the wait at
its own end, up to `LONGEST_S`; each `CALM_S` of work without one takes a doubling back. Whatever happens to a device,
it is thus switched some 60 times a day at most.
"""

from __future__ import annotations

from attrs import evolve, frozen

SOON_S, CALM_S = 3600.0, 7200.0
LONGEST_S = 3600.0


@frozen
class Patience:
    """What is remembered of the pauses before. Times are monotonic seconds."""

    soon: int = 0
    """How many pauses came soon after the one before, less those that calm has made up for."""
    worked_since: float | None = None
    """When the last pause ended; None if there was none."""

    def paused(self, now: float) -> Patience:
        """A pause begins."""
        if self.worked_since is None:
            return self
        worked_s = max(0.0, now - self.worked_since)
        if worked_s < SOON_S:
            return evolve(self, soon=min(30, self.soon + 1))
        return evolve(self, soon=max(0, self.soon - int(worked_s // CALM_S)))

    def worked(self, now: float) -> Patience:
        """A pause ends."""
        return evolve(self, worked_since=now)

    def dwell_s(self, least_s: float) -> float:
        """How long all must be well at the end of this pause, where `least_s` is asked for at least."""
        return max(least_s, min(LONGEST_S, max(1.0, least_s) * 2.0**self.soon)) if self.soon else least_s
