"""Secrets that devices join with, and the certificates that they got: who is let in is decided in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from retirecluster.domain.audit import Actor, AuditEntry
from retirecluster.domain.errors import ClusterError
from retirecluster.store.writes import put_audit_txn

KEEP_SPENT_S = 86_400.0
_COLUMNS = "fingerprint, device_id, role, issued_at, approved_at, revoked_at"


@frozen
class CertificateRow:
    """A device's certificate, by its SHA-256; instants are Unix seconds, None for what has not happened."""

    fingerprint: str
    device_id: str
    role: str
    issued_at: float
    approved_at: float | None
    revoked_at: float | None

    @property
    def status(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "waiting" if self.approved_at is None else "valid"


@frozen
class TokenRow:
    """A secret as it is kept."""

    secret_sha256: str
    role: str
    name: str
    created_at: float
    expires_at: float


@frozen
class Asked:
    """What a device that joins says. `shown` is the certificate that it has already, if it has one."""

    secret_sha256: str
    nonce_sha256: str
    device_id: str
    shown: str | None
    at: float
    approved: bool


@frozen
class Joined:
    """The certificate of who was let in, what was issued with it, and who is replaced by it."""

    row: CertificateRow
    issued: Any
    replaced: tuple[str, ...]


def certificates_txn(cursor: Any) -> list[CertificateRow]:
    """All of them, also those that were revoked."""
    rows = cursor.execute(f"SELECT {_COLUMNS} FROM device_certificates ORDER BY issued_at")
    return [CertificateRow(*row) for row in rows]


def put_token_txn(cursor: Any, row: TokenRow, told: AuditEntry) -> None:
    """Keep a secret; those that were over long ago go."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM join_tokens WHERE expires_at < ?", (row.created_at - KEEP_SPENT_S,))
    statement = "INSERT INTO join_tokens (secret_sha256, role, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?)"
    cursor.execute(statement, (row.secret_sha256, row.role, row.name, row.created_at, row.expires_at))
    put_audit_txn(cursor, told)


def join_txn(cursor: Any, asked: Asked, issue: Callable[[str], Any]) -> Joined:
    """Let a device in and use up its secret: of several at once, one. `issue` makes the certificate of a device id.

    A device that was let in and never heard so may ask again, with the same nonce: what it was given is void then.
    Raises ClusterError unauthorized (the secret), conflict (the name is another device's).
    """
    cursor.execute("BEGIN IMMEDIATE")
    role, device_id = _take_secret(cursor, asked)
    live = _live(cursor, device_id, asked.secret_sha256)
    if live and asked.shown not in live:
        what = f"{device_id} has joined already: join by another name (--name), or first: devices revoke {device_id}"
        raise ClusterError("conflict", what, field="data.device_id")
    gone = "device_id = ? OR secret_sha256 = ?"
    where = (device_id, asked.secret_sha256)
    found = cursor.execute(f"SELECT fingerprint FROM device_certificates WHERE revoked_at IS NULL AND ({gone})", where)
    replaced = tuple(row[0] for row in found.fetchall())
    revoke = f"UPDATE device_certificates SET revoked_at = ? WHERE revoked_at IS NULL AND ({gone})"
    cursor.execute(revoke, (asked.at, *where))
    issued = issue(device_id)
    row = CertificateRow(issued.fingerprint, device_id, role, asked.at, asked.at if asked.approved else None, None)
    cursor.execute(
        f"INSERT INTO device_certificates ({_COLUMNS}, secret_sha256) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.fingerprint, device_id, role, row.issued_at, row.approved_at, None, asked.secret_sha256),
    )
    used = "UPDATE join_tokens SET used_at = ?, nonce_sha256 = ? WHERE secret_sha256 = ?"
    cursor.execute(used, (asked.at, asked.nonce_sha256, asked.secret_sha256))
    detail = {"certificate": row.fingerprint, "status": row.status}
    put_audit_txn(cursor, AuditEntry.by(Actor(f"device:{device_id}"), asked.at, "device.join", device_id, detail))
    return Joined(row, issued, replaced)


def _take_secret(cursor: Any, asked: Asked) -> tuple[str, str]:
    """The role and the device id that a secret stands for."""
    query = "SELECT role, name, expires_at, used_at, nonce_sha256 FROM join_tokens WHERE secret_sha256 = ?"
    found = cursor.execute(query, (asked.secret_sha256,)).fetchone()
    if found is None:
        raise _no_good("is not known to this main")
    role, name, expires_at, used_at, nonce = found
    if expires_at <= asked.at:
        raise _no_good("has expired")
    if used_at is not None and nonce != asked.nonce_sha256:
        raise _no_good("has been used by another device")
    return role, name or asked.device_id


def _no_good(why: str) -> ClusterError:
    words = f"the join string {why}; make a new one on the main: retire-cluster join-token"
    return ClusterError("unauthorized", words, field="data.secret")


def _live(cursor: Any, device_id: str, secret_sha256: str) -> set[str]:
    query = (
        "SELECT fingerprint FROM device_certificates WHERE device_id = ? AND revoked_at IS NULL AND secret_sha256 != ?"
    )
    return {row[0] for row in cursor.execute(query, (device_id, secret_sha256))}


def approve_txn(cursor: Any, device_id: str, told: AuditEntry) -> None:
    """Let a device in that waits for it."""
    cursor.execute("BEGIN IMMEDIATE")
    statement = "UPDATE device_certificates SET approved_at = ? WHERE device_id = ? AND approved_at IS NULL"
    cursor.execute(statement, (told.at, device_id))
    put_audit_txn(cursor, told)


def revoke_txn(cursor: Any, device_id: str, told: AuditEntry) -> None:
    """Let a device in no more."""
    cursor.execute("BEGIN IMMEDIATE")
    statement = "UPDATE device_certificates SET revoked_at = ? WHERE device_id = ? AND revoked_at IS NULL"
    cursor.execute(statement, (told.at, device_id))
    put_audit_txn(cursor, told)


def note_txn(cursor: Any, told: AuditEntry) -> None:
    """Write down what changed outside of the database."""
    cursor.execute("BEGIN IMMEDIATE")
    put_audit_txn(cursor, told)
