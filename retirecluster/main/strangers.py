"""Devices that registered once and were never of use: forgotten after a while, so that nobody can fill the registry.

A device that ever ran something, that a person did something with, or that is wanted back by a task, stays.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define
from twisted.logger import Logger

from retirecluster.domain.devices import Presence
from retirecluster.domain.history import History
from retirecluster.domain.scheduler import Device, Moment, Scheduler
from retirecluster.main.turns import Turns

log = Logger()


@define(eq=False)
class Strangers:
    """Forgets them `keep_s` seconds after they were last heard of."""

    scheduler: Scheduler
    history: History
    turns: Turns
    moment: Callable[[], Moment]
    keep_s: float

    def forget(self, retention_at: float) -> int:
        """Forget those whose time is over by the clock of retention (Unix seconds); how many these were."""
        before_at, now = retention_at - self.keep_s, self.moment()
        gone = [
            each for each in self.scheduler.devices.values() if each.last_seen_at < before_at and self._strange(each)
        ]
        wanted = {task.queue.demand.device for task in self.scheduler.ledger.tasks.values()} if gone else set()
        gone = [each for each in gone if each.device_id not in wanted]
        for device in gone:
            self.scheduler.remove(device, now)
            self.history.forget(device.device_id)
        if gone:
            log.info("{count} devices that never ran anything are forgotten", count=len(gone))
            self.turns.ask()
        return len(gone)

    def _strange(self, device: Device) -> bool:
        ran = device.completed or device.failed or device.attempts or device.taken or device.deaths
        wanted = device.role_override or device.cordoned or device.quarantine or device.drain_until_at is not None
        borrowed = device.device_id in self.scheduler.pauses.borrowed
        sleeps = device.register.get("wake_on_lan")  # its address is known from this record alone
        return device.presence is Presence.OFFLINE and not (ran or wanted or borrowed or sleeps)
