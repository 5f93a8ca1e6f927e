"""When a failed attempt is tried again: full-jitter exponential backoff.

Full jitter (a uniform draw between zero and the exponential bound) spreads a crowd of retries best; see
Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from random import Random

BASE_S = 1.0
CAP_S = 300.0
REFUSAL_BASE_S = 0.25
REFUSAL_CAP_S = 60.0
CRASHES_TO_HOLD = 3
"""A task whose process took the worker down, or died with it, this often is held for a person to look at."""


def backoff_bound_s(charged: int) -> float:
    """The longest pause, in seconds, after the `charged`-th charged attempt (1, 2, 3...)."""
    return min(CAP_S, BASE_S * 2.0 ** min(max(charged - 1, 0), 30))


def backoff_s(charged: int, random: Random) -> float:
    """A pause, in seconds, drawn between 0 and `backoff_bound_s`."""
    return random.uniform(0.0, backoff_bound_s(charged))


def refusal_pause_s(count: int) -> float:
    """How long a device that could not begin `count` tasks in a row is given none, in seconds."""
    return min(REFUSAL_CAP_S, REFUSAL_BASE_S * 2.0 ** min(max(count - 1, 0), 30))
