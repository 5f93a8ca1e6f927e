"""Signals and people's wishes for rest: few rows, written when they change, read at start.

Each change and the row of the audit trail that tells who made it are one transaction.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from retirecluster.domain.audit import AuditEntry
from retirecluster.store.writes import put_audit_txn

ALL = ""
"""In place of a device id: the whole cluster."""


@frozen
class SignalRow:
    """A signal from outside; `set_at` and `until_at` are Unix seconds."""

    name: str
    value: float
    set_at: float
    until_at: float


@frozen
class RestRow:
    """A device, or all (ALL), to be left alone until `until_at`."""

    device_id: str
    reason: str
    running: str
    set_at: float
    until_at: float


def load_txn(cursor: Any) -> tuple[list[SignalRow], list[RestRow]]:
    """Everything that is kept, also what is over by now."""
    signals = cursor.execute("SELECT name, value, set_at, until_at FROM signals ORDER BY name").fetchall()
    rests = cursor.execute("SELECT device_id, reason, running, set_at, until_at FROM rests").fetchall()
    return [SignalRow(*row) for row in signals], [RestRow(*row) for row in rests]


def put_signal_txn(cursor: Any, row: SignalRow, told: AuditEntry) -> None:
    """Set a signal; those that are over go."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM signals WHERE until_at < ?", (row.set_at,))
    statement = "INSERT OR REPLACE INTO signals (name, value, set_at, until_at) VALUES (?, ?, ?, ?)"
    cursor.execute(statement, (row.name, row.value, row.set_at, row.until_at))
    put_audit_txn(cursor, told)


def remove_signal_txn(cursor: Any, name: str, told: AuditEntry) -> None:
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM signals WHERE name = ?", (name,))
    put_audit_txn(cursor, told)


def put_rest_txn(cursor: Any, row: RestRow, told: AuditEntry) -> None:
    """Set a rest; those that are over go."""
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM rests WHERE until_at < ?", (row.set_at,))
    statement = "INSERT OR REPLACE INTO rests (device_id, reason, running, set_at, until_at) VALUES (?, ?, ?, ?, ?)"
    cursor.execute(statement, (row.device_id, row.reason, row.running, row.set_at, row.until_at))
    put_audit_txn(cursor, told)


def remove_rest_txn(cursor: Any, device_id: str, told: AuditEntry) -> None:
    cursor.execute("BEGIN IMMEDIATE")
    cursor.execute("DELETE FROM rests WHERE device_id = ?", (device_id,))
    put_audit_txn(cursor, told)
