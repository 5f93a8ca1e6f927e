"""The audit trail: who changed what, and what was refused to whom.

What people do is written down each time. What devices and strangers get wrong is bounded: so many rows an hour for each
of them and for all, whatever they send; what was left out is counted and told in the next hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from retirecluster.domain.fencing import AttemptKey

if TYPE_CHECKING:
    from retirecluster.domain.scheduler.picture import Device, Moment, Task

WINDOW_S = 3600.0
PER_ACTOR, IN_ALL = 20, 200
"""Refusals that are written down in an hour: of one actor, and of all."""
TEXT_CHARS = 300


@frozen
class Actor:
    """Who does something: by what name and role, from which address, in which request. Empty: not known, or none."""

    name: str
    role: str = ""
    address: str = ""
    request_id: str = ""


ADMIN, TCP_CLIENT, MAIN = Actor("admin", "admin"), Actor("tcp client", "admin"), Actor("main")


@frozen
class AuditEntry:
    """One row. `subject` is the task or device that it was about, or empty; `detail` goes out as JSON."""

    at: float
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    role: str = ""
    address: str = ""
    request_id: str = ""

    @classmethod
    def by(cls, actor: Actor, at: float, action: str, subject: str, detail: Mapping[str, Any]) -> AuditEntry:
        """The row of what somebody does at an instant (Unix seconds)."""
        return cls(at, actor.name, action, subject, detail, actor.role, actor.address, actor.request_id)


def actor_of(device_id: str | None, host: str) -> str:
    """How a connection is called in the trail."""
    return f"peer:{host}" if device_id is None else f"device:{device_id}"


@define(eq=False)
class Refusals:
    """Decides which refusals are written down."""

    began_mono_s: float | None = None
    written: Counter[str] = field(factory=Counter)
    left_out: Counter[str] = field(factory=Counter)

    def admit(self, entry: AuditEntry, now: Moment) -> list[AuditEntry]:
        """What to write for one more refusal: nothing, itself, or first what was left out in the hour before."""
        found = self._new_window(now)
        if self.written.total() >= IN_ALL or self.written[entry.actor] >= PER_ACTOR:
            self.left_out[entry.actor if entry.actor in self.written else "others"] += 1
            return found
        self.written[entry.actor] += 1
        return [*found, entry]

    def _new_window(self, now: Moment) -> list[AuditEntry]:
        if self.began_mono_s is not None and now.mono_s - self.began_mono_s < WINDOW_S:
            return []
        left_out = dict(self.left_out.most_common(20))
        in_all = self.left_out.total()
        self.began_mono_s = now.mono_s
        self.written.clear()
        self.left_out.clear()
        if not in_all:
            return []
        return [AuditEntry.by(MAIN, now.wall_s, "refusals.left_out", "", {"in_all": in_all, "by_actor": left_out})]


def false_claims(device: Device, claims: Iterable[AttemptKey], tasks: Mapping[str, Task]) -> dict[str, int]:
    """How many of the claimed attempts are not the device's: `of_others`, `never_granted`, or `over` (or unknown)."""
    counts = {"of_others": 0, "never_granted": 0, "over": 0}
    for task_id, epoch in claims:
        task = tasks.get(task_id)
        attempt = task.attempt if task is not None else None
        if task is not None and epoch > task.epoch:
            counts["never_granted"] += 1
        elif attempt is not None and attempt.epoch == epoch and attempt.device_id != device.device_id:
            counts["of_others"] += 1
        else:
            counts["over"] += 1
    return counts


def short(text: str) -> str:
    """Text from outside, as long as the trail keeps it."""
    return text if len(text) <= TEXT_CHARS else text[:TEXT_CHARS] + "…"
