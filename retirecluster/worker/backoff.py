"""The pauses between one connection to the main and the next."""

from __future__ import annotations

from random import Random

from attrs import define

FIRST_RETRY_S, RETRY_CAP_S = 0.03, 30.0
TRIES_IN_A_LEASE = 4


@define
class Backoff:
    """Full-jitter exponential pauses, in seconds. Only a registration counts as success, not a bare connection.

    `cap_s` follows the lease that the main gave: a device that is away tries often enough to be back before its
    attempts are given away, however short the lease is.
    """

    random: Random
    failures: int = 0
    cap_s: float = RETRY_CAP_S

    def __call__(self, _attempt: int) -> float:
        self.failures += 1
        bound = min(self.cap_s, FIRST_RETRY_S * 2.0 ** min(self.failures - 1, 30))
        return self.random.uniform(0.0, bound)

    def registered(self, lease_s: float) -> None:
        """Begin anew with the shortest pause, under a lease of so long."""
        self.failures = 0
        self.cap_s = max(FIRST_RETRY_S, min(RETRY_CAP_S, lease_s / TRIES_IN_A_LEASE))
