"""Who is connected: sessions, registration, duplicates, farewells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from retirecluster.domain.audit import actor_of, false_claims, short
from retirecluster.domain.devices import DEVICE_ID, profile_from_register
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fencing import AttemptKey, is_current
from retirecluster.domain.fields import Problem
from retirecluster.domain.parts import known_part
from retirecluster.domain.requirements import Requirements, unmet
from retirecluster.domain.scheduler import Device, Moment, Scheduler
from retirecluster.domain.scheduler.core import Registration
from retirecluster.domain.tasks import encode
from retirecluster.main.turns import Turns
from retirecluster.wire.messages import Message

log = Logger()


class Peer(Protocol):
    """A connection, as the registry sees it."""

    host: str
    dead: bool

    @property
    def device_id(self) -> str | None: ...

    @property
    def session_no(self) -> int: ...

    def enter(self, device_id: str, session_no: int) -> None:
        """From now on it speaks for that session of that device."""

    def tell(self, name: str, data: dict[str, Any]) -> None:
        """Send a message."""

    def ping(self, timeout_s: float) -> Deferred[bool]:
        """Fires with True if the peer answers in time."""

    def abort(self) -> None:
        """Close at once."""

    def hang_up(self) -> None:
        """Close once everything is sent."""


NOT_KEPT = ("attempts", "auth", "availability")
"""Fields of a registration that are not part of what the device is."""
MAX_KEPT_BYTES = 131_072
"""Of the rest, as JSON: it is kept in memory and on disk, and read with every look at the device."""
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
        kept = _kept(message)
        if data.get("attempts") is not None:
            kept["attempts"] = []  # that it keeps a journal is part of its profile
        profile = profile_from_register(device_id, kept)
        registration = self.scheduler.register(profile, kept, claims, self.moment())
        device = self.scheduler.devices[device_id]
        self.scheduler.pauses.registered(device, data.get("availability"), self.moment())
        self.sessions[device_id] = peer
        peer.enter(device_id, registration.session_no)
        self.claims_refused(self.scheduler.devices[device_id], len(claims), registration.stop)
        return registration

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

    def forget(self, peer: Peer, reason: str, *, closed: bool, grace_s: float = 0.0, blamed: bool = True) -> None:
        """A connection ended without a farewell; see `Scheduler.disconnected` for what is said of that."""
        device = self._release(peer)
        if device is not None:
            log.info("{device_id} disconnected: {reason}", device_id=device.device_id, reason=reason)
            now = self.moment()
            self.scheduler.disconnected(device, now, reason, closed=closed, grace_s=grace_s, blamed=blamed)
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
        current = is_current(self.scheduler.devices.get(device_id), session_no)
        return self.sessions.get(device_id) if current else None

    def holder(self, peer: Peer) -> Device | None:
        """The device that a connection speaks for; None before it has registered, and once that session is over."""
        device = self.scheduler.devices.get(peer.device_id or "")
        return device if is_current(device, peer.session_no) else None

    def check_session(self, peer: Peer) -> None:
        """Raises ClusterError not_registered for a connection whose session is over."""
        if peer.device_id is not None and self.holder(peer) is None:
            raise ClusterError(
                "not_registered", f"session {peer.session_no} of {peer.device_id} is over: connect and register anew"
            )

    def claims_refused(
        self, device: Device, claimed: int, stop: list[AttemptKey], *, late_is_fine: bool = False
    ) -> None:
        """Write down that a device claimed attempts that are not its own; `late_is_fine`: some may just be over."""
        counts = false_claims(device, stop, self.scheduler.ledger.tasks)
        if counts["of_others"] or counts["never_granted"] or (stop and not late_is_fine):
            actor, detail = actor_of(device.device_id, ""), {"claimed": claimed, **counts}
            self.scheduler.ledger.audit_refusal(self.moment(), actor, "claims.refused", device.device_id, **detail)
            self.turns.ask_lazily()

    def refused(self, peer: Peer, error: ClusterError, message: Message | None) -> None:
        """Write down that a message of a device or a stranger was answered with an error."""
        if error.kind.actor not in ("caller", "peer"):
            return
        data = message.data if message is not None else {}
        subject = data.get("task_id") or data.get("device_id") or ""
        detail: dict[str, Any] = {"code": error.code, "error": short(error.message)}
        if error.field:
            detail["field"] = short(error.field)
        if message is not None:
            detail |= {"message_type": message.name} | ({"epoch": data["epoch"]} if "epoch" in data else {})
        actor = actor_of(peer.device_id, peer.host)
        self.scheduler.ledger.audit_refusal(self.moment(), actor, "message.refused", subject, **detail)
        self.turns.ask_lazily()

    def broadcast_message(self, name: str, data: dict[str, Any], device_ids: list[str] | None = None) -> int:
        """Send a message to devices (None: all that are connected); returns to how many."""
        chosen = [peer for device_id, peer in self.sessions.items() if device_ids is None or device_id in device_ids]
        for peer in chosen:
            peer.tell(name, data)
        return len(chosen)

    def _release(self, peer: Peer) -> Device | None:
        device = self.holder(peer)
        if device is not None:
            del self.sessions[device.device_id]
        return device


def _device_id(message: Message) -> str:
    problems: list[Problem] = []
    DEVICE_ID.check(message.sender_id, "sender_id", problems)
    if problems:
        raise invalid(problems)
    return message.sender_id


def _kept(message: Message) -> dict[str, Any]:
    """What is kept of a registration: what the catalogue names, at any depth, and not too much of it."""
    said = {name: each for name, each in message.data.items() if name not in NOT_KEPT}
    kept: dict[str, Any] = known_part(message.kind.data, said)
    sizes = {name: len(encode(value)) for name, value in kept.items()}
    if sum(sizes.values()) > MAX_KEPT_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        what = f"has {sizes[largest]} bytes as JSON; what a device says of itself may have {MAX_KEPT_BYTES} in all"
        raise invalid([Problem(f"data.{largest}", what)])
    return kept
