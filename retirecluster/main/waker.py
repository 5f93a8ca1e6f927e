"""Wakes devices that sleep, if their owners allow it: when tasks wait that nobody else can run, or when a person asks.

A packet is sent once, and again after a minute, two, four, ... while the device does not come. Each is audited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from attrs import define, field, frozen
from twisted.internet.abstract import isIPAddress
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from retirecluster.domain.audit import ADMIN, MAIN, Actor
from retirecluster.domain.devices import Presence
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.explain import away_words
from retirecluster.domain.scheduler import Device, Moment, Scheduler
from retirecluster.domain.scheduler.shelves import RequirementClass
from retirecluster.domain.units import format_duration, format_instant
from retirecluster.domain.wake import ASLEEP, PERSON_AGAIN_S, again_after_s, macs_of, magic_packet
from retirecluster.main.turns import Turns

LOOK_EVERY_S = 5.0


@frozen
class Woken:
    """Packets that were sent since the device was last there, in that session: how many, and when the last one was."""

    count: int
    at: Moment
    session_no: int


@define(eq=False)
class Waker:
    """Sends packets to `broadcast`, if `enabled`. What it knows of devices lives in the scheduler's picture."""

    scheduler: Scheduler
    turns: Turns
    reactor: Any
    moment: Callable[[], Moment]
    enabled: bool
    broadcast: str
    port: int
    log = Logger()
    woken: dict[str, Woken] = field(factory=dict)
    _loop: LoopingCall | None = field(default=None, init=False)

    def start(self) -> None:
        """Look now and then who is to be woken."""
        if not self.enabled:
            return
        self._loop = LoopingCall(self._look_safely)
        self._loop.clock = self.reactor
        self._loop.start(LOOK_EVERY_S, now=False)

    def stop(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    # Who may be woken

    def why_not(self, device: Device) -> str:
        """Why a device cannot be woken at all; empty if it can."""
        if not self.enabled:
            return "the main's setting wake_on_lan is off"
        if not device.register.get("wake_on_lan"):
            return "its owner has not set wake_on_lan"
        return "" if macs_of(device.register) else "its hardware address is not known"

    def _why_not_unasked(self, device: Device) -> str:
        """Why it is not woken for tasks: nobody who wants a device left alone is overruled."""
        held = device.resting or ("it is cordoned" if device.cordoned else "it is drained" if device.draining else "")
        paused = f"it was paused: {device.pause.reason}" if device.pause is not None else ""
        return self.why_not(device) or held or paused or ("it is not trusted" if device.distrusted else "")

    # Waking

    def wake(self, device: Device, by: Actor = ADMIN) -> None:
        """Send a packet, as a person asks. Raises ClusterError conflict or rate_limited."""
        if device.presence is Presence.ONLINE:
            raise ClusterError("conflict", f"{device.device_id} is {device.status}: there is nobody to wake")
        why = self.why_not(device)
        if why:
            raise ClusterError("conflict", f"{device.device_id} cannot be woken: {why}")
        last = self._last(device)
        if last is not None and self.moment().mono_s - last.at.mono_s < PERSON_AGAIN_S:
            wait = f"wait {PERSON_AGAIN_S:g} s between two packets"
            raise ClusterError("rate_limited", f"{device.device_id} has just been woken; {wait}")
        self._wake(device, by, "asked for")

    def _wake(self, device: Device, by: Actor, why: str) -> None:
        macs, now = macs_of(device.register), self.moment()
        self._send(macs)
        last = self._last(device)
        self.woken[device.device_id] = Woken(1 if last is None else last.count + 1, now, device.session_no)
        self.log.info("{device} is woken: {why}", device=device.device_id, why=why)
        self.scheduler.ledger.audit(now, by, "device.wake", device.device_id, why=why, macs=macs)
        self.turns.ask()

    def _send(self, macs: list[str]) -> None:
        if not isIPAddress(self.broadcast):
            raise ClusterError("conflict", f"wake_broadcast: {self.broadcast!r} is no IPv4 address")
        port = self.reactor.listenUDP(0, DatagramProtocol())
        try:
            port.setBroadcastAllowed(True)
            for mac in macs:
                port.write(magic_packet(mac), (self.broadcast, self.port))
        except OSError as error:
            hint = "set wake_broadcast to that of your network, as 192.168.1.255"
            words = f"{self.broadcast} cannot be reached: {error.strerror}; {hint}"
            raise ClusterError("conflict", words) from None
        finally:
            port.stopListening()

    def _last(self, device: Device) -> Woken | None:
        """What was sent in vain. Once the device has come, however shortly, the count begins anew."""
        last = self.woken.get(device.device_id)
        return last if last is not None and last.session_no == device.session_no else None

    # Looking

    def _look_safely(self) -> None:
        # A LoopingCall that raises stops for good.
        try:
            self.look()
        except Exception:
            self.log.failure("looking whom to wake failed; the next look follows")

    def look(self) -> None:
        """Wake one device for each kind of waiting task that no device which is there can run."""
        devices = self.scheduler.devices
        for device_id in [each for each in self.woken if each not in devices or self._last(devices[each]) is None]:
            del self.woken[device_id]
        for device, queue in list(self._needed()):
            head = queue.head()
            try:
                self._wake(
                    device, MAIN, f"{head[3].task_id if head else 'a task'} waits, and no device here can run it"
                )
            except ClusterError as error:
                self.log.warn("{device} is not woken: {why}", device=device.device_id, why=error.message)

    def _needed(self) -> Iterator[tuple[Device, RequirementClass]]:
        sleepers = [
            each for each in self.scheduler.devices.values() if not _is_there(each) and not self._why_not_unasked(each)
        ]
        chosen: set[str] = set()
        for queue in list(self.scheduler.queues.live) if sleepers else ():
            if queue.head() is None or any(each.accepts for each in queue.devices()):
                continue
            fitting = [each for each in sleepers if queue.fits(each)]
            # One at a time: the next one only once that one had time to come.
            if not fitting or any(each.device_id in chosen or not self._due(each, 1) for each in fitting):
                continue
            due = [each for each in fitting if self._due(each)]
            if due:
                best = min(due, key=self._tried_and_slow)
                chosen.add(best.device_id)
                yield best, queue

    def _tried_and_slow(self, device: Device) -> tuple[int, float, str]:
        last = self._last(device)
        return 0 if last is None else last.count, -device.profile.speed, device.device_id

    def _due(self, device: Device, count: int | None = None) -> bool:
        """Whether so long has passed since the last packet as is due after so many (None: as were sent)."""
        last = self._last(device)
        if last is None:
            return True
        return self.moment().mono_s - last.at.mono_s >= again_after_s(count or last.count)

    # Showing

    def away(self, device: Device) -> str:
        """Why a device that is not there runs nothing, for `tasks why`: `asleep: woken 20 s ago`."""
        words, last = away_words(device), self._last(device)
        if last is not None:
            return f"{device.status}: woken {self._ago(last)} ago"
        if device.status != ASLEEP:
            return words
        why = self._why_not_unasked(device)
        return f"{words}: not woken, as {why}" if why else f"{words}: can be woken"

    def when_woken(self, device: Device) -> str | None:
        """When a device that is away was woken, for `tasks why`; empty if it was not, None if it cannot be."""
        last = self._last(device)
        if self.why_not(device) or (last is None and device.status != ASLEEP):
            return None
        return "" if last is None else f"woken {self._ago(last)} ago"

    def _ago(self, last: Woken) -> str:
        return format_duration(round(max(0.0, self.moment().mono_s - last.at.mono_s)))

    def document(self, device: Device) -> dict[str, Any]:
        """What `devices show` says: whether it can be woken, where, and when it was."""
        last, why = self._last(device), self.why_not(device)
        return {
            "possible": not why,
            "why_not": why,
            "macs": macs_of(device.register),
            "woken": 0 if last is None else last.count,
            "woken_at": None if last is None else format_instant(last.at.wall_s),
        }


def _is_there(device: Device) -> bool:
    return device.presence is Presence.ONLINE
