"""The audit trail on disk: migrated rows are tied together, clean-up keeps the chain, and the program finds damage."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from retirecluster.domain.audit import ADMIN, AuditEntry
from retirecluster.store import cleanup, migrations
from retirecluster.store.reads import audit_state_txn
from retirecluster.store.writes import put_audit_txn


def opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.isolation_level = None
    return connection


def trail(path: Path, count: int) -> sqlite3.Connection:
    """A database with so many rows."""
    connection = opened(path)
    migrations.migrate(connection, path)
    entries = [AuditEntry.by(ADMIN, 1.0 + number, "task.hold", f"t{number}", {"n": number}) for number in range(count)]
    put_audit_txn(connection.cursor(), *entries)
    return connection


def verify(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "retirecluster.store", "audit-verify", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_rows_from_before_the_chain_are_tied_together(tmp_path: Path) -> None:
    connection = opened(tmp_path / "cluster.db")
    for number, script in migrations.scripts():
        if number < 8:
            migrations.apply(connection, number, script)
    statement = (
        "INSERT INTO audit (audit_no, at, actor, action, subject, detail) VALUES (?, ?, 'admin', 'a', 's', '{}')"
    )
    connection.executemany(statement, [(number, float(number)) for number in range(41, 60)])
    migrations.migrate(connection, tmp_path / "cluster.db")
    chain, bad = audit_state_txn(connection.cursor())
    assert bad is None and (chain.first_no, chain.last_no) == (40, 59)
    put_audit_txn(connection.cursor(), AuditEntry.by(ADMIN, 1.0, "b", "", {}))
    chain, bad = audit_state_txn(connection.cursor())
    assert bad is None and chain.last_no == 60
    connection.close()


def test_clean_up_moves_the_beginning(tmp_path: Path) -> None:
    connection = trail(tmp_path / "cluster.db", 30)
    cursor = connection.cursor()
    assert cleanup.forget_audit_txn(cursor, 10, 15).more
    connection.commit()
    assert audit_state_txn(cursor)[1] is None
    assert cleanup.forget_audit_txn(cursor, 10, 15).rows == 5
    connection.commit()
    chain, bad = audit_state_txn(cursor)
    assert bad is None and (chain.first_no, chain.last_no) == (20, 30)
    assert cleanup.forget_audit_txn(cursor, 10, 15).rows == 0
    connection.commit()
    with pytest.raises(sqlite3.IntegrityError, match="not removed"):
        connection.execute("DELETE FROM audit WHERE audit_no = 25")
    connection.close()


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE audit SET actor = 'nobody' WHERE audit_no = 4", "row 4 is not what was written there"),
        ("UPDATE audit SET at = at + 1 WHERE audit_no = 1", "row 1 is not what was written there"),
        ("DELETE FROM audit WHERE audit_no = 3", "row 3 is missing"),
        ("DELETE FROM audit WHERE audit_no = 9", "row 9 is missing"),
        ("UPDATE audit SET audit_no = 12 WHERE audit_no = 9", "row 9 is missing"),
        ("UPDATE audit_chain SET last_hash = '0'", "row 9 is not the row that was written last"),
        ("UPDATE audit SET hash = printf('%064d', 0) WHERE audit_no = 6", "row 6 is not what was written there"),
    ],
)
def test_the_program_names_the_first_bad_row(tmp_path: Path, damage: str, found: str) -> None:
    path = tmp_path / "cluster.db"
    connection = trail(path, 9)
    sound = verify(tmp_path)
    assert sound.returncode == 0 and sound.stdout.startswith("9 rows are as they were written; last row 9, hash ")
    for trigger in ("audit_rows_stay_as_they_are", "audit_rows_stay"):
        connection.execute(f"DROP TRIGGER {trigger}")  # whoever can write the file can do that
    connection.execute(damage)
    connection.close()
    done = verify(path)
    assert done.returncode == 1 and found in done.stderr and done.stdout == ""


def test_what_is_no_trail_is_said_so(tmp_path: Path) -> None:
    done = verify(tmp_path)
    assert done.returncode == 2 and "is missing" in done.stderr
    (tmp_path / "cluster.db").write_bytes(b"nonsense" * 1000)
    done = verify(tmp_path)
    assert done.returncode == 2 and "no audit trail" in done.stderr and "Traceback" not in done.stderr
