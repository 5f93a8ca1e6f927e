"""Access tokens and sessions of browsers: few rows, written when they change, read at start.

Each change and the row of the audit trail that tells who made it are one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from retirecluster.domain.audit import AuditEntry
from retirecluster.store.writes import put_audit_txn


@frozen
class TokenRow:
    """A token by its `digest` (SHA-256, hex). Instants are Unix seconds; `expires_at` None: it stays."""

    token_id: str
    digest: str
    name: str
    role: str
    created_at: float
    expires_at: float | None
    last_used_at: float | None = None


@frozen
class SessionRow:
    """A session by the `digest` of its cookie, opened with the token of `token_digest`."""

    digest: str
    token_digest: str
    created_at: float
    expires_at: float


def load_access_txn(cursor: Any) -> tuple[list[TokenRow], list[SessionRow]]:
    """Everything that is kept, also what is over by now."""
    tokens = cursor.execute(
        "SELECT token_id, digest, name, role, created_at, expires_at, last_used_at FROM tokens ORDER BY created_at"
    ).fetchall()
    sessions = cursor.execute("SELECT digest, token_digest, created_at, expires_at FROM sessions").fetchall()
    return [TokenRow(*row) for row in tokens], [SessionRow(*row) for row in sessions]


def add_token_txn(cursor: Any, row: TokenRow, told: AuditEntry) -> None:
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute(
        "INSERT INTO tokens (token_id, digest, name, role, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
        (row.token_id, row.digest, row.name, row.role, row.created_at, row.expires_at),
    )
    put_audit_txn(cursor, told)


def remove_token_txn(cursor: Any, row: TokenRow, told: AuditEntry) -> None:
    """Remove a token and the sessions that were opened with it."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM tokens WHERE token_id = ?", (row.token_id,))
    cursor.execute("DELETE FROM sessions WHERE token_digest = ?", (row.digest,))
    put_audit_txn(cursor, told)


def add_session_txn(cursor: Any, row: SessionRow, over: Sequence[str], told: AuditEntry) -> None:
    """Add a session; those with the digests `over` go."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.executemany("DELETE FROM sessions WHERE digest = ?", [(each,) for each in over])
    statement = "INSERT INTO sessions (digest, token_digest, created_at, expires_at) VALUES (?, ?, ?, ?)"
    cursor.execute(statement, (row.digest, row.token_digest, row.created_at, row.expires_at))
    put_audit_txn(cursor, told)


def remove_session_txn(cursor: Any, digest: str, told: AuditEntry) -> None:
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM sessions WHERE digest = ?", (digest,))
    put_audit_txn(cursor, told)


def note_use_txn(cursor: Any, used: Iterable[tuple[float, str]], over: Sequence[str]) -> None:
    """Note when tokens were used last, as (instant, digest); tokens with the digests `over` go."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.executemany("UPDATE tokens SET last_used_at = ? WHERE digest = ?", list(used))
    for statement in ("DELETE FROM tokens WHERE digest = ?", "DELETE FROM sessions WHERE token_digest = ?"):
        cursor.executemany(statement, [(each,) for each in over])
