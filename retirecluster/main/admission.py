"""Who is let in by TLS: join strings are made and used up here, devices known by their certificates, and revoked.

A device is whoever has the key of a certificate that stands in the database, approved and not revoked. What a
connection says of itself counts for nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from retirecluster.domain.audit import ADMIN, Actor, AuditEntry
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.join_string import SECRET_BYTES, JoinString
from retirecluster.domain.units import format_instant
from retirecluster.main.certificates import Authority, fingerprint_of
from retirecluster.main.registry import DeviceRegistry
from retirecluster.main.tls_port import ServerTls, peer_fingerprint
from retirecluster.store import admission as rows
from retirecluster.store.database import Database

log = Logger()
REVOKED = "this device was revoked; a person has to let it join anew, with a new join string"


@frozen
class Reach:
    """Where devices find this main: names and addresses, the port for workers; `names` stand in its certificate."""

    hosts: Callable[[], list[str]]
    port: Callable[[], int]
    names: Callable[[], Iterable[str]]


@define(eq=False)
class Admission:
    """Decides who may register. With `approve` devices that have joined wait for a person."""

    authority: Authority
    ports: tuple[ServerTls, ...]
    database: Database
    registry: DeviceRegistry
    moment: Callable[[], Any]
    reactor: Any
    reach: Reach
    approve_first: bool = False
    _known: dict[str, rows.CertificateRow] = field(factory=dict, init=False)

    def restore(self, found: Iterable[rows.CertificateRow]) -> None:
        """Take in what the store holds, before anything is served."""
        self._known = {each.fingerprint: each for each in found}

    # -- joining

    async def create(self, role: str, name: str, ttl_s: float, by: Actor = ADMIN) -> dict[str, Any]:
        """A new join string, good for one device, for `ttl_s` seconds. Its secret is nowhere else."""
        at = self.moment().wall_s
        secret = secrets.token_urlsafe(SECRET_BYTES)
        found = JoinString(tuple(self.reach.hosts()), self.reach.port(), self.authority.hash, secret)
        row = rows.TokenRow(hashed(secret), role, name, at, at + ttl_s)
        detail = {"role": role, "name": name, "ttl_s": ttl_s}
        await self.database.change(rows.put_token_txn, row, AuditEntry.by(by, at, "join_token.create", name, detail))
        expires_at = format_instant(row.expires_at)
        text = found.text()
        return {"join_string": text, "command": f"retire-cluster join {text}", "expires_at": expires_at}

    async def join(self, secret: str, device_id: str, nonce: str, shown: str | None) -> dict[str, Any]:
        """Let a device in; what it is told. On disk when this returns. Raises ClusterError unauthorized, conflict."""
        at = self.moment().wall_s
        asked = rows.Asked(hashed(secret), hashed(nonce), device_id, shown, at, not self.approve_first)
        joined = await self.database.change(rows.join_txn, asked, self.authority.issue_device)
        for each in joined.replaced:
            self._known[each] = evolve(self._known[each], revoked_at=at)
        self._known[joined.row.fingerprint] = joined.row
        self._drop(joined.row.device_id, "it has joined anew")
        log.info("{device_id} has joined and is {status}", device_id=joined.row.device_id, status=joined.row.status)
        return {
            "device_id": joined.row.device_id,
            "certificate": joined.issued.certificate,
            "key": joined.issued.key,
            "waiting": joined.row.approved_at is None,
        }

    # -- registering

    def identified(self, fingerprint: str | None) -> rows.CertificateRow:
        """The device whose certificate that is. Raises ClusterError unauthorized, forbidden for one that may not in."""
        row = None if fingerprint is None else self._known.get(fingerprint)
        if row is None:
            why = "has shown no certificate" if fingerprint is None else "has a certificate that is not known here"
            words = f"this connection {why}: let the device join: retire-cluster join-token on the main"
            raise ClusterError("unauthorized", words)
        if row.revoked_at is not None:
            raise ClusterError("forbidden", REVOKED)
        if row.approved_at is None:
            words = f"{row.device_id} waits for a person to let it in: retire-cluster devices approve {row.device_id}"
            raise ClusterError("forbidden", words)
        return row

    @staticmethod
    def shown_by(transport: Any) -> str | None:
        """The fingerprint of the certificate of a connection's other side; None if it has shown none."""
        return peer_fingerprint(transport)

    def registering(self, fingerprint: str | None, sender_id: str) -> rows.CertificateRow:
        """The device that registers: by its certificate, and as no other. Raises ClusterError."""
        row = self.identified(fingerprint)
        if sender_id != row.device_id:
            words = f"this certificate is that of {row.device_id}: it may register as that device alone"
            raise ClusterError("forbidden", words, field="sender_id")
        return row

    # -- what people do

    def documents(self) -> list[dict[str, Any]]:
        """Every certificate of a device, the newest first."""
        newest = sorted(self._known.values(), key=lambda each: each.issued_at, reverse=True)
        return [
            {
                "device_id": each.device_id,
                "status": each.status,
                "fingerprint": each.fingerprint,
                "issued_at": format_instant(each.issued_at),
                "revoked_at": format_instant(each.revoked_at),
            }
            for each in newest
        ]

    async def approve(self, device_id: str, by: Actor = ADMIN) -> None:
        """Let a device in that has joined and waits. Raises ClusterError not_found, conflict."""
        if "waiting" not in self._statuses(device_id):
            raise ClusterError("conflict", f"{device_id} does not wait to be let in")
        at = self.moment().wall_s
        told = AuditEntry.by(by, at, "device.approve", device_id, {})
        await self.database.change(rows.approve_txn, device_id, told)
        for each in self._of(device_id):
            if each.approved_at is None:
                self._known[each.fingerprint] = evolve(each, approved_at=at)

    async def revoke(self, device_id: str, by: Actor = ADMIN) -> None:
        """Let a device in no more, and end its session. Raises ClusterError not_found, conflict."""
        if not {"valid", "waiting"} & self._statuses(device_id):
            raise ClusterError("conflict", f"{device_id} is revoked already")
        at = self.moment().wall_s
        told = AuditEntry.by(by, at, "device.revoke", device_id, {})
        await self.database.change(rows.revoke_txn, device_id, told)
        for each in self._of(device_id):
            if each.revoked_at is None:
                self._known[each.fingerprint] = evolve(each, revoked_at=at)
        self._drop(device_id, REVOKED)

    def _drop(self, device_id: str, why: str) -> None:
        """End the session of a device whose certificate is void. What it runs is given to others."""
        peer = self.registry.sessions.get(device_id)
        if peer is not None:
            peer.tell("error", {"code": "forbidden", "message": why})
            self.registry.forget(peer, why, closed=True, blamed=False)
            peer.hang_up()

    def _of(self, device_id: str) -> list[rows.CertificateRow]:
        found = [each for each in self._known.values() if each.device_id == device_id]
        if not found:
            raise ClusterError("not_found", f"no device {device_id} has joined by a join string")
        return found

    def _statuses(self, device_id: str) -> set[str]:
        return {each.status for each in self._of(device_id)}

    # -- the authority

    def authority_document(self) -> dict[str, Any]:
        """The authority and the main's certificate. Nothing of it is secret."""
        main = self.authority.main_certificate()
        return {
            "ca_sha256": self.authority.hash,
            "ca": self.authority.pem,
            "main_sha256": None if main is None else fingerprint_of(main),
            "file": str(self.authority.folder / "ca.crt"),
            "certificates": self.documents(),
        }

    async def renew(self, by: Actor = ADMIN) -> dict[str, Any]:
        """A new key and certificate for the main, of the same authority: devices notice nothing. Used at once."""
        pool = self.reactor.getThreadPool()
        await deferToThreadPool(self.reactor, pool, self.authority.issue_main, list(self.reach.names()))
        for each in self.ports:
            each.reload()
        found = self.authority_document()
        detail = {"main_sha256": found["main_sha256"]}
        await self.database.change(rows.note_txn, AuditEntry.by(by, self.moment().wall_s, "ca.renew", "", detail))
        return found


def hashed(secret: str) -> str:
    """As secrets are kept."""
    return sha256(secret.encode("utf-8")).hexdigest()
