"""The scheduler as a whole: events in, turns out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from attrs import define, frozen

from retirecluster.domain.devices import DeviceProfile, Presence
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fencing import AttemptKey
from retirecluster.domain.lifecycle import State
from retirecluster.domain.retry import backoff_bound_s
from retirecluster.domain.scheduler.attempts import AttemptEvents
from retirecluster.domain.scheduler.fleet import Fleet
from retirecluster.domain.scheduler.ledger import Ledger
from retirecluster.domain.scheduler.pauses import Pauses
from retirecluster.domain.scheduler.picture import Attempt, Device, Moment, Task
from retirecluster.domain.scheduler.placement import Queues
from retirecluster.domain.scheduler.probes import Probes
from retirecluster.domain.scheduler.scoring import condition
from retirecluster.domain.scheduler.standing import Standing
from retirecluster.domain.scheduler.tasks import TaskEvents
from retirecluster.domain.scheduler.timers import Timers
from retirecluster.domain.scheduler.turn import Stop, Turn
from retirecluster.domain.scheduler.verifications import Verifications
from retirecluster.domain.tasks import KEEP, STOP, TaskSpec
from retirecluster.domain.trust import Blame
from retirecluster.domain.units import format_duration

LONGEST_DRAIN_S = 86_400.0
"""After a restart a drain ends within this, whatever the wall clock says."""
OVERTIME_S = 60.0
"""How long past its timeout an attempt may be named in heartbeats before the main gives it up itself."""


@frozen
class Settings:
    """Durations in seconds; `max_tasks` bounds the tasks that are not final."""

    lease_s: float = 300.0
    offline_after_s: float = 300.0
    failover_grace_s: float = 1.0
    max_tasks: int = 2_000_000


@frozen
class Registration:
    """The answer to a registration: which claimed attempts go on, and which are to be stopped."""

    session_no: int
    resume: list[AttemptKey]
    stop: list[AttemptKey]
    died: bool = False
    """Its worker ended while it ran a task, which is news."""


@define(eq=False)
class Scheduler:
    """Every decision, from one picture in memory. Not thread-safe, and it does no input or output."""

    settings: Settings
    ledger: Ledger
    devices: dict[str, Device]
    queues: Queues
    fleet: Fleet
    timers: Timers
    tasks: TaskEvents
    attempts: AttemptEvents
    probes: Probes
    pauses: Pauses
    standing: Standing
    verifications: Verifications

    @classmethod
    def create(cls, settings: Settings, random: Random, began: Moment) -> Scheduler:
        """An empty one; `began` is when this life of the main started."""
        devices: dict[str, Device] = {}
        ledger, queues = Ledger(), Queues(devices)
        timers = Timers(lambda subject: subject in ledger.tasks or subject in devices)
        fleet = Fleet(devices, queues, ledger)
        tasks = TaskEvents(ledger, queues, fleet, timers, random, began_mono_s=began.mono_s)
        attempts = AttemptEvents(ledger, queues, fleet, timers, random, tasks.waited_s)
        standing = Standing(fleet, tasks, timers)
        probes = Probes(tasks, attempts, fleet, timers, standing)
        verifications = Verifications(ledger, fleet, tasks, standing)
        pauses = Pauses(fleet, attempts)
        return cls(
            settings,
            ledger,
            devices,
            queues,
            fleet,
            timers,
            tasks,
            attempts,
            probes,
            pauses,
            standing,
            verifications,
        )

    # -- turns

    def take_turn(self, now: Moment) -> Turn:
        """Place what can be placed, and hand over everything decided since the last turn."""
        results = {each.task_seq: each.document for each in self.ledger.turn.results}
        for task in self.ledger.turn.ended:  # grows meanwhile: what ends a copy may end the task that it verifies
            self.probes.ended(task, results.get(task.seq), now)
            self.verifications.ended(task, results.get(task.seq), now)
        for task, device in self.queues.grants(now):
            self.attempts.grant(task, device, now)
        for wait in self.queues.tail.take_begun():
            self.timers.add(wait.until_mono_s, "tail", wait.task.task_id, wait.token)
        return self.ledger.take_turn()

    # -- people

    def submit(self, specs: Iterable[TaskSpec], now: Moment) -> list[Task]:
        """Take in new tasks, all or none. Raises ClusterError queue_full."""
        wanted = list(specs)
        if len(self.ledger.tasks) + sum(spec.options.verify for spec in wanted) > self.settings.max_tasks:
            raise ClusterError(
                "queue_full",
                f"{len(self.ledger.tasks)} tasks wait or run; max_tasks allows {self.settings.max_tasks}",
            )
        tasks = [self.tasks.submit(spec, now) for spec in wanted]
        for task in tasks:
            if task.options.verify > 1:
                self.verifications.begin(task, now)
        return tasks

    def task(self, task_id: str) -> Task | None:
        """The task of that id, if it is not final."""
        return self.ledger.tasks.get(task_id)

    # -- devices

    def register(
        self,
        profile: DeviceProfile,
        document: Mapping[str, Any],
        claims: Mapping[AttemptKey, str],
        now: Moment,
    ) -> Registration:
        """A device opened a session. `claims` is what its journal holds: (task_id, epoch) to state."""
        device = self.devices.get(profile.device_id)
        if device is None:
            device = Device(profile.device_id, profile, first_seen_at=now.wall_s)
            device.session_no = self.fleet.removed.pop(profile.device_id, 0)
            self.devices[profile.device_id] = device
        device.profile = profile.with_role(device.role_override) if device.role_override else profile
        device.register = document
        device.session_no += 1
        device.draining = device.drain_until_at is not None
        device.refusal = None
        self.fleet.heard_of(device, now)
        self.fleet.set_presence(device, Presence.ONLINE, "registered", now)
        self.queues.profile_changed(device)
        registration = self._settle(device, claims, now)
        if registration.died:
            self.standing.note(device, Blame.CRASH, now)
        self.probes.worker_died(device, (task_id for (task_id, _), claim in claims.items() if claim == "died"), now)
        self.probes.check(device, now)
        return registration

    def _settle(self, device: Device, claims: Mapping[AttemptKey, str], now: Moment) -> Registration:
        """Compare what a device claims with what it was given."""
        resume: list[AttemptKey] = []
        died = False
        for task in list(device.attempts.values()):
            attempt = task.attempt
            assert attempt is not None
            key = (task.task_id, attempt.epoch)
            claim = claims.get(key)
            if claim is None:
                self.attempts.never_started(task, now, f"{device.device_id} came back without it")
            elif claim == "died":
                self.attempts.died(task, now, f"the worker on {device.device_id} ended while it ran")
                died = True
            else:
                self._resume(device, task, attempt, claim, now)
                resume.append(key)
        for (task_id, epoch), claim in claims.items():
            # Evidence counts once, and only from the device that was running it.
            stale = self.task(task_id) if claim == "died" and (task_id, epoch) in device.taken else None
            if stale is not None:
                self.attempts.crash_reported(stale, now, device.device_id)
                died = True
        device.taken.clear()
        stop = [key for key in claims if key not in set(resume)]
        return Registration(device.session_no, resume, stop, died)

    def _resume(self, device: Device, task: Task, attempt: Attempt, claim: str, now: Moment) -> None:
        attempt.session_no = device.session_no
        attempt.renewed_mono_s = now.mono_s
        if claim == "running":
            self.attempts.started(task, attempt, now)
        if task.state is State.CANCELLING:
            stop = Stop(device.device_id, device.session_no, task.task_id, attempt.epoch, task.reason)
            self.ledger.turn.effects.append(stop)

    def heartbeat(
        self, device: Device, metrics: Mapping[str, Any], named: Iterable[AttemptKey] | None, now: Moment
    ) -> tuple[list[AttemptKey], list[AttemptKey]]:
        """A sign of life: renew the attempts it names (None: all it holds); returns (renewed, to be stopped)."""
        self.standing.heartbeat(device, metrics, now.mono_s - device.last_seen_mono_s, now)
        self.fleet.heard_of(device, now)
        was = condition(device)
        device.metrics = metrics
        if condition(device) != was:
            self.queues.device_changed(device)
        if named is None:
            for task in device.attempts.values():
                assert task.attempt is not None
                task.attempt.renew(now)
            return [], []
        renewed, stop = [], []
        for key in named:
            held = device.attempts.get(key[0])
            attempt = held.attempt if held is not None else None
            if attempt is not None and attempt.epoch == key[1] and attempt.renew(now):
                renewed.append(key)
            else:
                stop.append(key)
        return renewed, stop

    def disconnected(
        self,
        device: Device,
        now: Moment,
        reason: str,
        *,
        closed: bool,
        grace_s: float = 0.0,
        blamed: bool = True,
    ) -> None:
        """The connection of an online device ended; `blamed`: neither side meant it to.

        `closed`: the peer's system closed it without a word of farewell, which is what happens when a process
        is killed; its tasks move on after `failover_grace_s` (or `grace_s`, if that is longer), unless a second
        run at the same time must be excluded. Otherwise the link is silent, the worker may well go on, and the
        leases decide.
        """
        self.fleet.set_presence(device, Presence.DISCONNECTED, "disconnected", now, reason)
        if blamed:
            self.standing.note(device, Blame.FLAP, now)
        if closed and device.attempts:
            at_mono_s = now.mono_s + max(grace_s, self.settings.failover_grace_s)
            self.timers.add(at_mono_s, "failover", device.device_id, device.session_no)

    def end_drain_in(self, device: Device, now: Moment, deadline_s: float) -> None:
        """What a draining device still runs after `deadline_s` is stopped and runs elsewhere."""
        device.drain_until_at = now.wall_s + deadline_s
        self.ledger.turn.devices[device.device_id] = device
        self._time_drain(device, now, deadline_s)

    def _time_drain(self, device: Device, now: Moment, left_s: float) -> None:
        device.drain_no += 1
        self.timers.add(now.mono_s + left_s, "drain", device.device_id, device.drain_no)

    def _drain_over(self, device_id: str, drain_no: int) -> None:
        device = self.devices.get(device_id)
        if device is None or not device.draining or device.drain_no != drain_no:
            return
        for task in device.attempts.values():
            assert task.attempt is not None
            if task.state is not State.CANCELLING:
                self.attempts.take_back(task, task.attempt, f"{device_id} drained")

    def left(self, device: Device, now: Moment, reason: str) -> None:
        """A device said farewell: nothing of what it held runs any more."""
        for task in list(device.attempts.values()):
            assert task.attempt is not None
            self.attempts.refused(task, task.attempt, now, f"{device.device_id} left: {reason}")
        self.fleet.set_presence(device, Presence.OFFLINE, "left", now, reason)

    def remove(self, device: Device, now: Moment) -> None:
        """Take a device that is not online out of the registry.

        Raises ClusterError conflict for one that is online, or may still run what must not run twice at a time.
        """
        if device.presence is Presence.ONLINE:
            raise ClusterError("conflict", f"{device.device_id} is online: stop its worker first, or drain it")
        if any(task.options.on_disconnect == STOP for task in device.attempts.values()):
            raise ClusterError(
                "conflict",
                f"{device.device_id} may still run a task that must not run twice at a time: wait until its lease is "
                f"over, within {format_duration(self.settings.lease_s)}",
            )
        self._give_up_all(device, now, f"{device.device_id} was removed")
        self.queues.forget(device)
        self.fleet.silent_since.pop(device.device_id, None)
        self.pauses.borrowed.pop(device.device_id, None)
        self.fleet.removed[device.device_id] = device.session_no
        del self.devices[device.device_id]
        self.ledger.log_removed(device, now)

    # -- time

    def next_timer_at(self) -> float | None:
        """When `run_timers` has something to do, in monotonic seconds."""
        return self.timers.next_at()

    def run_timers(self, now: Moment) -> None:
        """Do what has come up: pauses that are over, deadlines, failovers."""
        for timer in self.timers.due(now.mono_s):
            if timer.kind == "backoff":
                self.tasks.backoff_over(timer.subject, timer.token, now)
            elif timer.kind == "deadline":
                self.tasks.deadline(timer.subject, now)
            elif timer.kind == "failover":
                self._failover(timer.subject, timer.token, now)
            elif timer.kind == "drain":
                self._drain_over(timer.subject, timer.token)
            elif timer.kind == "tail" and timer.subject in self.ledger.tasks:
                self.queues.wait_over(self.ledger.tasks[timer.subject], timer.token)
            elif timer.kind == "refusal" and timer.subject in self.devices:
                self.attempts.refusal_over(self.devices[timer.subject], now)
            elif timer.kind == "probe" and timer.subject in self.devices:
                self.probes.check(self.devices[timer.subject], now)

    def silent_devices(self, now: Moment) -> list[Device]:
        """Devices that are not offline yet and were silent for `offline_after_s`; they are offline from now on."""
        found = []
        for device_id in list(self.fleet.silent_since):
            device = self.devices[device_id]
            silence_s = now.mono_s - device.last_seen_mono_s
            if silence_s < self.settings.offline_after_s:
                break
            found.append(device)
            if device.presence is Presence.ONLINE:
                self.standing.note(device, Blame.FLAP, now)
            reason = f"nothing heard for {format_duration(silence_s)}"
            self.fleet.set_presence(device, Presence.OFFLINE, "offline", now, reason)
        return found

    def check_leases(self, now: Moment) -> None:
        """End the attempts whose lease is over, and those that run far beyond their timeout."""
        for device in self.devices.values():
            if device.attempts:
                for task in list(device.attempts.values()):
                    self._check_lease(device, task, now)

    def _check_lease(self, device: Device, task: Task, now: Moment) -> None:
        attempt = task.attempt
        assert attempt is not None
        if now.mono_s - attempt.renewed_mono_s > self.settings.lease_s:
            silence = format_duration(now.mono_s - attempt.renewed_mono_s)
            self.attempts.lease_over(task, attempt, now, f"{device.device_id} did not renew it for {silence}")
            return
        since = attempt.started_mono_s
        if device.stands_still or attempt.overdue or since is None:
            return
        if now.mono_s - since <= task.options.timeout_s + OVERTIME_S:
            return
        attempt.overdue = True
        stop = Stop(device.device_id, device.session_no, task.task_id, attempt.epoch, "far beyond its timeout")
        self.ledger.turn.effects.append(stop)
        if task.options.on_disconnect == KEEP:  # others move on only when the device has had the time to stop them
            self.attempts.lease_over(task, attempt, now, f"{device.device_id} ran it far beyond its timeout")

    def _failover(self, device_id: str, session_no: int, now: Moment) -> None:
        device = self.devices.get(device_id)
        if device is None or device.session_no != session_no or device.presence is Presence.ONLINE:
            return
        for task in list(device.attempts.values()):
            attempt, options = task.attempt, task.options
            assert attempt is not None
            if options.on_disconnect == KEEP and not options.at_most_once:
                self.attempts.moved_on(task, attempt, now, f"the connection of {device_id} broke")

    def _give_up_all(self, device: Device, now: Moment, reason: str) -> None:
        for task in list(device.attempts.values()):
            assert task.attempt is not None
            self.attempts.lease_over(task, task.attempt, now, reason)

    # -- start

    def restore_device(self, device: Device, now: Moment) -> None:
        """Take in a device from the store. Those that were there get a fresh grace to come back."""
        self.devices[device.device_id] = device
        self.standing.restored(device)
        if device.drain_until_at is not None:
            self._time_drain(device, now, min(max(device.drain_until_at - now.wall_s, 0.0), LONGEST_DRAIN_S))
        if device.presence is not Presence.OFFLINE:
            device.presence = Presence.DISCONNECTED
            device.reason = "the main restarted"
            device.last_seen_mono_s = now.mono_s
            self.fleet.silent_since[device.device_id] = None

    def restore_task(self, task: Task, attempt: Attempt | None, now: Moment) -> None:
        """Take in a task that is not final from the store; `attempt` is the current one, if a device holds it."""
        self.ledger.restored(task)
        self.probes.restored(task)
        if attempt is not None:
            attempt.granted_mono_s = attempt.renewed_mono_s = now.mono_s
            attempt.started_mono_s = None if attempt.started_at is None else now.mono_s
            self.fleet.take(self.devices[attempt.device_id], task, attempt)
        elif task.state is State.QUEUED:
            self.queues.push(task)
        elif task.state is State.RETRYING:
            pause_s = (task.not_before_at or now.wall_s) - now.wall_s
            self.timers.add(
                now.mono_s + min(max(pause_s, 0.0), backoff_bound_s(task.tries)), "backoff", task.task_id, task.epoch
            )
        if task.deadline_at is not None:
            left_s = min(max(task.deadline_at - now.wall_s, 0.0), task.deadline_at - task.created_at)
            self.timers.add(now.mono_s + left_s, "deadline", task.task_id, 0)
