"""What is held against devices: each event goes into the device's trust ledger, and its trust follows.

A device that a wrong result takes below `QUARANTINE_BELOW` is put into quarantine: it keeps what it runs and gets
nothing new but probes, the first one after a pause that doubles from one quarantine to the next. Out of it lead a
passed probe (see `probes`), a person, and time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import define, evolve

from retirecluster.domain.scheduler.fleet import Fleet
from retirecluster.domain.scheduler.picture import Device, Moment
from retirecluster.domain.scheduler.tasks import TaskEvents
from retirecluster.domain.scheduler.timers import Timers
from retirecluster.domain.trust import (
    QUARANTINE_BELOW,
    RELEASE_ABOVE,
    Blame,
    TrustLedger,
    aged,
    entered,
    reason_for,
    score,
    with_wear,
    worn_of,
)

QUARANTINE_S = 3600.0
LONGEST_QUARANTINE_S = 7 * 86_400.0
"""The pause before the first probe: an hour at first, at most a week."""
LONGEST_BEAT_S = 600.0
"""One heartbeat speaks for this long at most."""
WORTH_SAVING_H = 1.0
WORTH_SAVING_WEAR = 0.01


@define(eq=False)
class Standing:
    """Trust in devices: what lowers it, and what follows."""

    fleet: Fleet
    tasks: TaskEvents
    timers: Timers

    def note(self, device: Device, what: Blame, now: Moment) -> None:
        """Enter an event; it is on disk with this turn. Only a wrong result puts a device into quarantine."""
        self._keep(device, entered(device.ledger, what, self.tasks.running_s(now)))
        self._save(device)
        if what is Blame.WRONG and device.quarantine:  # of a task that was running there: say how many they are by now
            device.quarantine = reason_for(device.ledger)
            self.fleet.ledger.log_device("quarantined", device, now, trust=round(device.trust, 3))
        elif what is Blame.WRONG and device.trust < QUARANTINE_BELOW:
            self._quarantine(device, now)
        self.fleet.queues.device_changed(device)

    def heartbeat(self, device: Device, metrics: Mapping[str, Any], silent_s: float, now: Moment) -> None:
        """Let time pass, and note throttling and wear: in memory, written only once there is much of it."""
        ledger = aged(device.ledger, self.tasks.running_s(now))
        if (metrics.get("throttling") or {}).get("now"):
            hours = min(max(silent_s, 0.0), LONGEST_BEAT_S) / 3600.0
            ledger = entered(ledger, Blame.THROTTLED, ledger.as_of_s, hours)
            device.unsaved_throttled_h += hours
        worn = worn_of(metrics.get("battery"))
        worn_more = worn is not None and abs(worn - ledger.worn) >= WORTH_SAVING_WEAR
        self._keep(device, with_wear(ledger, worn) if worn is not None and worn_more else ledger)
        if worn_more or device.unsaved_throttled_h >= WORTH_SAVING_H:
            self._save(device)
        if device.quarantine and device.trust >= RELEASE_ABOVE:
            self.end_quarantine(device, device.ledger, now)

    def restored(self, device: Device) -> None:
        """A device came from the store: its trust follows from its ledger."""
        device.trust = score(device.ledger)

    def end_quarantine(self, device: Device, ledger: TrustLedger, now: Moment) -> None:
        """It may work again; `ledger` is what is still held against it."""
        self._keep(device, ledger)
        device.quarantine, device.probe_after_s = "", 0.0
        self.fleet.ledger.log_device("released", device, now, trust=round(device.trust, 3))
        self.fleet.queues.device_changed(device)

    def probe_in_s(self, device: Device, now: Moment) -> float:
        """Seconds until a device may have its probe; 0 if it may now."""
        return max(0.0, device.probe_after_s - self.tasks.running_s(now)) if device.quarantine else 0.0

    def _quarantine(self, device: Device, now: Moment) -> None:
        ledger = device.ledger
        pause_s = min(LONGEST_QUARANTINE_S, QUARANTINE_S * 2.0 ** min(round(ledger.quarantines), 20))
        device.quarantine = reason_for(ledger)
        device.probe_after_s = self.tasks.running_s(now) + pause_s
        device.ledger = evolve(ledger, quarantines=ledger.quarantines + 1)
        self.fleet.ledger.log_device("quarantined", device, now, trust=round(device.trust, 3))
        self.timers.add(now.mono_s + pause_s, "probe", device.device_id, 0)

    @staticmethod
    def _keep(device: Device, ledger: TrustLedger) -> None:
        device.ledger, device.trust = ledger, score(ledger)

    def _save(self, device: Device) -> None:
        device.unsaved_throttled_h = 0.0
        self.fleet.ledger.turn.devices[device.device_id] = device
