"""The devices' own books: who is there, what each holds, what is reserved."""

from __future__ import annotations

from attrs import define, field

from retirecluster.domain.devices import Presence
from retirecluster.domain.scheduler.ledger import Ledger
from retirecluster.domain.scheduler.picture import Attempt, Device, Moment, Task
from retirecluster.domain.scheduler.placement import Queues


@define(eq=False)
class Fleet:
    """All devices that are known, by id."""

    devices: dict[str, Device]
    queues: Queues
    ledger: Ledger
    silent_since: dict[str, None] = field(factory=dict)
    """Ids of devices that are not offline, the one heard of longest ago first."""
    removed: dict[str, int] = field(factory=dict)
    """The last session of devices that were removed: should one come back, late words of before must not count."""

    def take(self, device: Device, task: Task, attempt: Attempt) -> None:
        """Enter an attempt into the device's books."""
        device.attempts[task.task_id] = task
        device.reserved_cores += task.queue.demand.min_cpu_cores
        device.reserved_bytes += task.queue.demand.min_memory_bytes
        task.attempt = attempt
        task.device_id = device.device_id
        self.queues.device_changed(device)

    def free(self, device_id: str, task: Task) -> None:
        """Strike a task from the device's books; its room is free again."""
        device = self.devices.get(device_id)
        if device is None or device.attempts.pop(task.task_id, None) is None:
            return
        if device.attempts:
            device.reserved_cores -= task.queue.demand.min_cpu_cores
            device.reserved_bytes -= task.queue.demand.min_memory_bytes
        else:  # no rounding is carried on
            device.reserved_cores, device.reserved_bytes = 0.0, 0
        self.queues.device_changed(device)

    def heard_of(self, device: Device, now: Moment) -> None:
        """A sign of life."""
        device.last_seen_at, device.last_seen_mono_s = now.wall_s, now.mono_s
        self.silent_since.pop(device.device_id, None)
        self.silent_since[device.device_id] = None

    def set_presence(self, device: Device, presence: Presence, kind: str, now: Moment, reason: str = "") -> None:
        """Change and log whether a device can be talked to."""
        device.presence = presence
        device.reason = reason
        if presence is Presence.OFFLINE:
            self.silent_since.pop(device.device_id, None)
        self.ledger.log_device(kind, device, now)
        self.queues.device_changed(device)

    def set_flags(
        self, device: Device, now: Moment, *, draining: bool | None = None, cordoned: bool | None = None
    ) -> None:
        """Start or end draining or cordoning, whichever is given."""
        before = (device.draining, device.cordoned)
        if draining is not None:
            device.draining = draining
            device.drain_until_at = device.drain_until_at if draining else None
        if cordoned is not None:
            device.cordoned = cordoned
        if before != (device.draining, device.cordoned):
            self.ledger.log_device(device.status if not device.accepts else "open", device, now)
            self.queues.device_changed(device)

    def set_role(self, device: Device, role: str, now: Moment) -> None:
        """Give a device another role than the one it announces; kept over its restarts."""
        device.role_override = role.lower()
        device.profile = device.profile.with_role(role)
        self.ledger.log_device("role", device, now)
        self.queues.profile_changed(device)
