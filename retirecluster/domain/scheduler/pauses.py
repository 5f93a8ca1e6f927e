"""Devices that work for nobody for a while: by their owner's policy, or because a person wants it quiet.

A device says of itself that it is *paused*; the main gives it nothing new, does not count the time that its tasks stand
still, and takes away what it wants to hand back. A *rest* is a person's word on the main: for one device (borrowed by
its owner) or for all (quiet). What rests is given nothing, whether or not the device knows of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field

from retirecluster.domain.lifecycle import State
from retirecluster.domain.policy import CONTINUE, HAND_BACK, STRONGEST_FIRST, Asking
from retirecluster.domain.scheduler.attempts import AttemptEvents
from retirecluster.domain.scheduler.fleet import Fleet
from retirecluster.domain.scheduler.picture import Device, Moment, Pause, Rest


@define(eq=False)
class Pauses:
    """Who works, as owners and people say."""

    fleet: Fleet
    attempts: AttemptEvents
    quiet: Rest | None = None
    borrowed: dict[str, Rest] = field(factory=dict)
    """By device id."""

    # What devices say

    def registered(self, device: Device, availability: Mapping[str, Any] | None, now: Moment) -> None:
        """A device registered; `availability` is what it said of itself, None if it knows nothing of such things."""
        device.heeds = availability is not None
        device.rests = self._reasons_for(device)
        self.said(device, availability or {"state": "available"}, now)

    def said(self, device: Device, availability: Mapping[str, Any], now: Moment) -> None:
        """The data of an `availability` message."""
        device.policy = tuple(availability.get("policy") or ())
        device.untold = tuple(availability.get("untold") or ())
        before, device.pause = device.pause, _pause(device.pause, availability, now)
        pause = device.pause
        running = CONTINUE if pause is None else pause.running
        if before is not None and before.still_since_mono_s is not None and running == CONTINUE:
            self._count_out(device, before.still_since_mono_s, now)
        if (before is None) != (pause is None) or (before is not None and before.running != running):
            self.fleet.ledger.log_device("available" if pause is None else "paused", device, now)
            self.fleet.queues.device_changed(device)
        if pause is not None and running == HAND_BACK:
            self._hand_back(device, f"{device.device_id} is paused: {pause.reason}")

    @staticmethod
    def _count_out(device: Device, still_since_mono_s: float, now: Moment) -> None:
        """The time for which its tasks stood still is none in which they ran."""
        for task in device.attempts.values():
            attempt = task.attempt
            if attempt is not None and attempt.started_mono_s is not None:
                attempt.started_mono_s += max(0.0, now.mono_s - max(still_since_mono_s, attempt.started_mono_s))

    def _hand_back(self, device: Device, reason: str) -> None:
        """Take away what runs there. What must never run twice stays, and goes on when the device does."""
        for task in device.attempts.values():
            attempt = task.attempt
            assert attempt is not None
            if task.state is not State.CANCELLING and not task.options.at_most_once and not attempt.taken_back:
                self.attempts.take_back(task, attempt, reason)

    # What people say

    def restored(self, device_id: str | None, rest: Rest) -> None:
        """A rest from before a restart: of one device, or of all (None)."""
        if device_id is None:
            self.quiet = rest
        else:
            self.borrowed[device_id] = rest
        for device in self.fleet.devices.values():
            device.rests = self._reasons_for(device)

    def set_quiet(self, rest: Rest | None, now: Moment) -> None:
        """Quiet for all devices, or the end of it."""
        self.quiet = rest
        data = {"reason": "", "running": CONTINUE} if rest is None else {"reason": rest.reason, "running": rest.running}
        self.fleet.ledger.log_cluster("quiet_over" if rest is None else "quiet", now, **data)
        for device in self.fleet.devices.values():
            self._apply(device)

    def set_borrowed(self, device: Device, rest: Rest | None, now: Moment) -> None:
        """A device is its owner's for a while, or the cluster's again."""
        self.borrowed.pop(device.device_id, None)
        if rest is not None:
            self.borrowed[device.device_id] = rest
        self._apply(device)
        self.fleet.ledger.log_device("given_back" if rest is None else "borrowed", device, now)

    def rests_of(self, device_id: str) -> list[Rest]:
        """All that hold for a device, its own and that of all: first the one that asks most of running tasks."""
        rests = [each for each in (self.borrowed.get(device_id), self.quiet) if each is not None]
        return sorted(rests, key=lambda each: (STRONGEST_FIRST.index(each.running), -each.until_mono_s))

    def rest_of(self, device_id: str) -> Rest | None:
        """What holds for a device in all: every reason, the most that is asked of tasks, until the last one ends."""
        rests = self.rests_of(device_id)
        if not rests:
            return None
        return Rest("; ".join(_reasons(rests)), rests[0].running, max(each.until_mono_s for each in rests))

    def _reasons_for(self, device: Device) -> tuple[str, ...]:
        return _reasons(self.rests_of(device.device_id))

    def _apply(self, device: Device) -> None:
        before, device.rests = device.rests, self._reasons_for(device)
        if before != device.rests:
            self.fleet.queues.device_changed(device)
        rest = self.rest_of(device.device_id)
        if rest is not None and rest.running == HAND_BACK and not device.heeds:
            self._hand_back(device, rest.reason)


def _reasons(rests: Iterable[Rest]) -> tuple[str, ...]:
    """Each once."""
    return tuple(dict.fromkeys(each.reason for each in rests))


def _pause(before: Pause | None, availability: Mapping[str, Any], now: Moment) -> Pause | None:
    if availability["state"] != "paused":
        return None
    since = now.mono_s - (availability.get("since_s") or 0.0)
    if before is not None:
        since = before.since_mono_s
    said = availability.get("rules")
    return Pause(
        availability.get("reason") or "no reason given",
        availability.get("running") or CONTINUE,
        since,
        None if said is None else tuple(Asking(each["rule"], each.get("known") is not False) for each in said),
        availability.get("settling") is True,
        _still_since(before, availability, now),
    )


def _still_since(before: Pause | None, availability: Mapping[str, Any], now: Moment) -> float | None:
    """Since when tasks stand still, by the device's word or, where it gives none, since it first said so."""
    if (availability.get("running") or CONTINUE) == CONTINUE:
        return None
    still_s = availability.get("still_s")
    if still_s is None and before is not None:
        return now.mono_s if before.still_since_mono_s is None else before.still_since_mono_s
    return now.mono_s - (availability.get("since_s") or 0.0 if still_s is None else still_s)
