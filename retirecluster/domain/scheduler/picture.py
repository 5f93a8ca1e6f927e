"""What the scheduler knows, in memory: tasks that are not final, their current attempts, and devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen

from retirecluster.domain.devices import DeviceProfile, Presence
from retirecluster.domain.lifecycle import State
from retirecluster.domain.policy import Asking
from retirecluster.domain.tasks import Options
from retirecluster.domain.trust import TrustLedger
from retirecluster.domain.wake import ASLEEP

if TYPE_CHECKING:
    from retirecluster.domain.scheduler.scoring import Steady
    from retirecluster.domain.scheduler.shelves import RequirementClass

PREFETCH_S = 0.1
"""Seconds of work that may wait on a device beyond its slots."""
DEATHS_TO_SUSPECT = 3
PAUSED = "paused"
QUARANTINED = "quarantined"


@frozen
class Moment:
    """A point in time on both clocks: `mono_s` for intervals, `wall_s` (Unix) for what is stored and shown."""

    mono_s: float
    wall_s: float


@define(eq=False, slots=True)
class Attempt:
    """One grant of a task to a device. `(task.seq, epoch)` is its identity and its fencing token.

    The `*_at` are wall clock (Unix seconds), `*_mono_s` monotonic and of this life of the main only.
    """

    task_seq: int
    epoch: int
    device_id: str
    session_no: int
    granted_at: float
    granted_mono_s: float
    renewed_mono_s: float
    started_at: float | None = None
    started_mono_s: float | None = None
    finished_at: float | None = None
    outcome: str | None = None
    reason: str = ""
    charged: bool = False
    taken_back: str = ""
    """Why the main told the device to stop it so that it can run elsewhere; empty if it did not."""
    overdue: bool = False
    """It ran far beyond its timeout: its lease is not renewed any more, and it is to be stopped."""

    def renew(self, now: Moment) -> bool:
        """Hold it for another lease; False if it is to be stopped instead."""
        if not self.overdue:
            self.renewed_mono_s = now.mono_s
        return not self.overdue


@define(eq=False, slots=True)
class Task:
    """A task that is not final yet. Tasks that say the same share `queue` and `options` objects.

    `order_s` is its place in the queue: the cluster's running time at submission less a boost for priority.
    `body` is the JSON text that travels to the device; None where only the store has it.
    """

    seq: int
    task_id: str
    task_type: str
    name: str
    priority: int
    queue: RequirementClass
    options: Options
    body: str | None
    order_s: float
    created_at: float
    state: State = State.QUEUED
    epoch: int = 0
    charged: int = 0
    forgiven: int = 0
    """How many of the charged attempts count no more: a person has released it since."""
    crashes: int = 0
    moves: int = 0
    """Attempts that ended with a closed connection, since a person released it."""
    attempt: Attempt | None = None
    device_id: str | None = None
    """Where the last attempt is or was."""
    started_at: float | None = None
    finished_at: float | None = None
    deadline_at: float | None = None
    not_before_at: float | None = None
    reason: str = ""
    progress: tuple[float | None, str] | None = None
    inputs: tuple[str, ...] = ()
    """Digests of the files that it starts with. Empty after a restart, when nobody knows who has them either."""
    queued_token: int = 0
    """Grows each time the task enters a queue: queue entries with an older one are void."""

    @property
    def tries(self) -> int:
        """Attempts that count against `max_retries`."""
        return self.charged - self.forgiven


@frozen
class Pause:
    """A device works for nobody, by its own word. `running` is what becomes of running tasks: continue, suspend (they
    stand still) or hand_back (they do, until they are taken away)."""

    reason: str
    running: str
    since_mono_s: float
    rules: tuple[Asking, ...] | None = None
    """The rules of its owner's policy that ask for it; None where it does not say."""
    settling: bool = False
    """No rule asks for it any more: it ends once that has lasted."""
    still_since_mono_s: float | None = None
    """Since when its running tasks stand still; None while they go on. One pause may have both, one after the other."""


@frozen
class Refusal:
    """A device could not begin what it was given, `count` times without having begun anything since: it is given
    nothing until then (monotonic seconds)."""

    reason: str
    count: int
    until_mono_s: float
    over: bool = False


@frozen
class Rest:
    """A person's word that one device, or all, are to be left alone until then."""

    reason: str
    running: str
    until_mono_s: float


@define(eq=False, slots=True)
class Device:
    """A device that has registered at least once."""

    device_id: str
    profile: DeviceProfile
    role_override: str | None = None
    presence: Presence = Presence.OFFLINE
    session_no: int = 0
    reason: str = ""
    draining: bool = False
    drain_until_at: float | None = None
    """A person wants it empty by then (wall clock): what runs longer is stopped and runs elsewhere."""
    drain_no: int = 0
    """Grows with each deadline for a drain: timers of earlier ones are void."""
    cordoned: bool = False
    refusal: Refusal | None = None
    pause: Pause | None = None
    rests: tuple[str, ...] = ()
    """Why people want it left alone; empty if nobody does."""
    policy: tuple[str, ...] = ()
    """The comfort policy that it follows, as it says: a line for each field."""
    untold: tuple[str, ...] = ()
    """Rules of its policy whose readings are not known there."""
    heeds: bool = False
    """Whether it understands signals and a wish for rest: plain peers of the original protocol do not."""
    deaths: list[str] = field(factory=list)
    """Different tasks that its worker died on, one after the other with nothing completed in between."""
    trust: float = 1.0
    """How far its results and its being there can be relied upon, 0 to 1; 1 for a device nothing is known against."""
    ledger: TrustLedger = field(factory=TrustLedger)
    """What its trust follows from, as of the last heartbeat or event."""
    unsaved_throttled_h: float = 0.0
    """Of the ledger: hours that are not on disk yet."""
    quarantine: str = ""
    """Why it is in quarantine; empty if it is not."""
    probe_after_s: float = 0.0
    """In quarantine: no probe before this running time of the cluster."""
    probe_task_id: str | None = None
    probes_failed: int = 0
    first_seen_at: float = 0.0
    last_seen_at: float = 0.0
    last_seen_mono_s: float = 0.0
    register: Mapping[str, Any] = field(factory=dict)
    metrics: Mapping[str, Any] = field(factory=dict)
    attempts: dict[str, Task] = field(factory=dict)
    taken: dict[tuple[str, int], None] = field(factory=dict)
    """(task_id, epoch) of attempts that were given up while it was away: it may yet say what became of them."""
    reserved_cores: float = 0.0
    reserved_bytes: int = 0
    completed: int = 0
    failed: int = 0
    mean_s: float | None = None
    """Smoothed execution time of what ran here lately, of any type."""
    durations: dict[str, tuple[int, float]] = field(factory=dict)
    """By task type: how many were measured, and their smoothed execution time in seconds."""
    version: int = 0
    """Grows with each change that matters to placement: offers made before are void."""
    steady: Steady | None = None
    """The part of its score that changes with its reports alone."""

    @property
    def cpu_share(self) -> float:
        """How busy its processors were at the last heartbeat, 0 to 1; 0 where it does not say."""
        return (self.metrics.get("cpu_usage") or 0.0) / 100.0

    @property
    def accepts(self) -> bool:
        """May be given new tasks."""
        held_back = self.draining or self.cordoned or self.distrusted or self.pausing
        return self.presence is Presence.ONLINE and not held_back

    @property
    def resting(self) -> str:
        """Why people want it left alone, in one sentence."""
        return "; ".join(self.rests)

    @property
    def pausing(self) -> str:
        """Why it works for nobody just now, by its owner's or another person's word or its own; empty if it does."""
        if self.pause is None:
            refused = self.refusal is not None and not self.refusal.over
            return self.resting or (f"it refused a task: {self.refusal.reason}" if refused and self.refusal else "")
        said = self.pause.reason
        return "; ".join([*(each for each in self.rests if each not in said), said])  # it may not have heard of all yet

    @property
    def stands_still(self) -> bool:
        """Its running tasks are stopped where they stand: that counts for no timeout."""
        return self.pause is not None and self.pause.running != "continue"

    @property
    def shown_reason(self) -> str:
        """Why its status is what it is, for people."""
        status = self.status
        why = self.pausing if status == PAUSED else self.quarantine if status == QUARANTINED else self.reason
        return "" if why == status else why

    @property
    def suspect(self) -> bool:
        """It is probably the device, and not the tasks: it gets none until a probe has passed."""
        return len(self.deaths) >= DEATHS_TO_SUSPECT

    @property
    def distrusted(self) -> bool:
        """Suspect, or in quarantine: it gets nothing but probes."""
        return self.suspect or bool(self.quarantine)

    @property
    def status(self) -> str:
        """One word for people."""
        if self.presence is not Presence.ONLINE:
            return ASLEEP if self.presence is Presence.OFFLINE and self.reason == ASLEEP else str(self.presence)
        if self.suspect:
            return "suspect"
        if self.quarantine:
            return QUARANTINED
        if self.draining:
            return "draining"
        if self.cordoned:
            return "cordoned"
        return PAUSED if self.pausing else "online"

    @property
    def free_slots(self) -> int:
        """How many more tasks it may be given, the queue of short ones included."""
        return self.profile.slots + self.prefetch - len(self.attempts)

    @property
    def prefetch(self) -> int:
        """Tasks worth queueing on the device so that it never idles between two: up to 0.1 s of work.

        Only for devices that offer it, and only once measured times say that tasks are that short: nothing is
        hoarded that another device could begin sooner. Where that turns out wrong, the worker hands back what
        waits behind a long task, and nothing is queued until something short has been measured again.
        """
        if not self.profile.prefetch or self.mean_s is None or self.mean_s >= PREFETCH_S:
            return 0
        return min(self.profile.prefetch, int(PREFETCH_S / max(self.mean_s, 1e-4)))

    def fits_now(self, cores: float, memory_bytes: int, task_type: str) -> bool:
        """Room for one more task with these reservations."""
        if cores or memory_bytes:
            return (
                len(self.attempts) < self.profile.slots
                and self.reserved_cores + cores <= self.profile.cpu_cores
                and self.reserved_bytes + memory_bytes <= self.profile.memory_bytes
            )
        if len(self.attempts) < self.profile.slots:
            return True
        count, mean_s = self.durations.get(task_type, (0, PREFETCH_S))
        return count > 0 and mean_s < PREFETCH_S and self.free_slots > 0
