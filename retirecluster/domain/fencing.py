"""What is current and what is late: the rules by which both sides ignore words from a past that is over.

A message may be delayed until the session that it was sent in has ended, and another has begun. Main and worker
compare the numbers of sessions; within a session, an attempt is known by its epoch. All pure.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum
from typing import TYPE_CHECKING

from attrs import frozen

from retirecluster.domain.devices import Presence

if TYPE_CHECKING:
    from retirecluster.domain.scheduler.picture import Device

AttemptKey = tuple[str, int]
"""(task_id, epoch)"""
LONGEST_MARGIN_S = 3.0
MARGIN_SHARE = 0.25


def is_current(device: Device | None, session_no: int) -> bool:
    """Whether a session is the one that its device has now.

    The main listens to this session alone, and sends what it decided for a session to no other.
    """
    return device is not None and device.presence is Presence.ONLINE and device.session_no == session_no


class Reception(Enum):
    """What a worker does with an assignment that reached it."""

    TAKE = "take it"
    LATE = "it is of a session that is over: whatever it was, the main has decided anew since"
    KNOWN = "this attempt was here before"


def reception(key: AttemptKey, of_session: int, session_no: int | None, known: Container[AttemptKey]) -> Reception:
    """What to do with an assignment sent in session `of_session`.

    `session_no` is the worker's session now (None without one), `known` every attempt it was ever told of: those that
    it took, handed back or refused, and those that it was told to stop before they came.
    """
    if of_session != session_no:
        return Reception.LATE
    return Reception.KNOWN if key in known else Reception.TAKE


@frozen
class LeaseEnd:
    """When a worker that hears nothing stops what must not run elsewhere at the same time.

    From `at_s` (the worker's monotonic clock) on its processes are told to end; after `grace_s` more they are killed.
    """

    at_s: float
    grace_s: float


def lease_end(asked_at_s: float, lease_s: float) -> LeaseEnd:
    """The end of leases whose renewal was asked for at `asked_at_s`.

    The main counts from when it read that, which is later: whatever the way took, the worker stops first. A margin is
    left for the kill itself and for clocks that do not run at the same speed.
    """
    margin_s = min(LONGEST_MARGIN_S, MARGIN_SHARE * lease_s)
    return LeaseEnd(asked_at_s + lease_s - margin_s, margin_s / 2)
