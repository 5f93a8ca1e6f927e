"""Who is connected: sessions, registration, duplicates, farewells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from retirecluster.domain.devices import DEVICE_ID, Presence, profile_from_register
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import Problem
from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler import Device, Moment, Scheduler
from retirecluster.domain.scheduler.core import Registration
from retirecluster.main.turns import Turns
from retirecluster.wire.messages import Message

log = Logger()


class Peer(Protocol):
    """A connection, as the registry sees it."""

    device_id: str | None
    dead: bool

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Send a message."""

    def ping(self, timeout_s: float) -> Deferred[bool]:
        """Fires with True if the peer answers in time."""

    def abort(self) -> None:
        """Close at once."""


PING_S = 2.0
"""How long the older of two connections with the same device id has to show that it is alive."""


@define(eq=False)
class DeviceRegistry:
    """Devices that are or were connected. The devices themselves live in the scheduler's picture."""

    scheduler: Scheduler
    turns: Turns
    moment: Callable[[], Moment]
    sessions: dict[str, Peer] = field(factory=dict)
    _arriving: set[str] = field(factory=set)

    async def register_device(self, peer: Peer, message: Message) -> Registration:
        """Open a session for a device; returns when that is on disk.

        Raises ClusterError: bad_field (sender_id), duplicate_device if another live connection has that id.
        """
        device_id = _device_id(message)
        if device_id in self._arriving:
            raise ClusterError("duplicate_device", f"another connection is just registering as {device_id}")
        self._arriving.add(device_id)
        try:
            await self._arbitrate(device_id)
            if peer.dead:
                raise ClusterError("not_registered", f"the connection of {device_id} ended while it registered")
            registration = self._open(peer, device_id, message)
        finally:
            self._arriving.discard(device_id)
        await self.turns.committed()
        return registration

    def _open(self, peer: Peer, device_id: str, message: Message) -> Registration:
        data = message.data
        claims = {(each["task_id"], each["epoch"]): each["state"] for each in data.get("attempts") or ()}
        known = message.kind.data.by_name
        kept = {name: value for name, value in data.items() if name in known and name not in ("attempts", "auth")}
        if data.get("attempts") is not None:
            kept["attempts"] = []  # that it keeps a journal is part of its profile
        self.sessions[device_id] = peer
        peer.device_id = device_id
        return self.scheduler.register(profile_from_register(device_id, kept), kept, claims, self.moment())

    async def _arbitrate(self, device_id: str) -> None:
        """Two connections with one id: the older one keeps it if it answers a ping."""
        older = self.sessions.get(device_id)
        if older is None:
            return
        if await older.ping(PING_S):
            raise ClusterError(
                "duplicate_device", f"{device_id} is connected already; give this device another --device-id"
            )
        if self.sessions.get(device_id) is older:
            log.info("{device_id}: the older connection does not answer and is dropped", device_id=device_id)
            older.abort()
            self.forget(older, "replaced by a newer connection", closed=False)

    def get_devices_by_capability(self, demand: Requirements, task_type: str = "") -> list[Device]:
        """Devices that meet the demands, whatever they are doing now."""
        found = []
        for device in self.scheduler.devices.values():
            wanted = task_type or next(iter(device.profile.task_types or ("echo",)))
            if not unmet(demand, wanted, False, device.profile):
                found.append(device)
        return found

    def mark_device_offline(self, device_id: str, reason: str) -> None:
        """End the session of a device that is silent; its presence is the scheduler's business."""
        peer = self.sessions.pop(device_id, None)
        if peer is not None:
            log.info("{device_id} is offline: {reason}", device_id=device_id, reason=reason)
            peer.device_id = None
            peer.abort()

    def update_device_status(
        self, device_id: str, *, draining: bool | None = None, cordoned: bool | None = None
    ) -> None:
        """Change whether a device is given new tasks. Raises ClusterError not_found."""
        device, now = self.get(device_id), self.moment()
        self.scheduler.fleet.set_flags(device, now, draining=draining, cordoned=cordoned)
        if cordoned is False:
            self.scheduler.probes.forgive(device, now)
        self.turns.ask()

    def get(self, device_id: str) -> Device:
        """The device of that id. Raises ClusterError not_found."""
        device = self.scheduler.devices.get(device_id)
        if device is None:
            raise ClusterError("not_found", f"there is no device {device_id}")
        return device

    def forget(self, peer: Peer, reason: str, *, closed: bool, grace_s: float = 0.0) -> None:
        """A connection ended without a farewell; see `Scheduler.disconnected` for `closed` and `grace_s`."""
        device = self._release(peer)
        if device is not None and device.presence is Presence.ONLINE:
            log.info("{device_id} disconnected: {reason}", device_id=device.device_id, reason=reason)
            self.scheduler.disconnected(device, self.moment(), reason, closed=closed, grace_s=grace_s)
            self.turns.ask()

    def farewell(self, peer: Peer, reason: str) -> None:
        """A device said that it leaves."""
        device = self._release(peer)
        if device is not None:
            log.info("{device_id} left: {reason}", device_id=device.device_id, reason=reason)
            self.scheduler.left(device, self.moment(), reason)
            self.turns.ask()

    def session(self, device_id: str, session_no: int) -> Peer | None:
        """The connection of that session, if it is still the device's."""
        device = self.scheduler.devices.get(device_id)
        if device is None or device.session_no != session_no:
            return None
        return self.sessions.get(device_id)

    def broadcast_message(self, name: str, data: dict[str, Any], device_ids: list[str] | None = None) -> int:
        """Send a message to devices (None: all that are connected); returns to how many."""
        chosen = [peer for device_id, peer in self.sessions.items() if device_ids is None or device_id in device_ids]
        for peer in chosen:
            peer.tell(name, data)
        return len(chosen)

    def _release(self, peer: Peer) -> Device | None:
        device_id = peer.device_id
        if device_id is None or self.sessions.get(device_id) is not peer:
            return None
        del self.sessions[device_id]
        peer.device_id = None
        return self.scheduler.devices.get(device_id)


def _device_id(message: Message) -> str:
    problems: list[Problem] = []
    DEVICE_ID.check(message.sender_id, "sender_id", problems)
    if problems:
        raise invalid(problems)
    return message.sender_id
