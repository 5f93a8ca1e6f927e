"""Whatever version a database was made by, it ends up with the same tables; interrupted, it goes on where it was."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retirecluster.domain.lifecycle import FINAL, State
from retirecluster.store import migrations

NEWEST = migrations.scripts()[-1][0]
FIRST_ATTEMPT_COLUMNS = (
    "task_seq, epoch, device_id, session_no, granted_at, started_at, finished_at, outcome, charged, reason"
)
"""Of an attempt, in every schema so far."""


def at_version(path: Path, version: int) -> sqlite3.Connection:
    """A database as the version of the program that had this schema left it, with a row in each table."""
    connection = sqlite3.connect(path)
    connection.isolation_level = None
    for number, script in migrations.scripts():
        if number <= version:
            migrations.apply(connection, number, script)
    if version:
        connection.execute(
            "INSERT INTO cluster (only_row, cluster_id, incarnation, created_at, running_s) "
            "VALUES (1, 'cluster-old', 3, 1.0, 2.0)"
        )
        connection.execute("INSERT INTO events VALUES (1, 5.0, 'device', 'left', NULL, 'd', '{}')")
        connection.execute(
            f"INSERT INTO attempts ({FIRST_ATTEMPT_COLUMNS}) VALUES (1, 1, 'd', 1, 1.0, NULL, NULL, NULL, 0, '')"
        )
    return connection


def schema(connection: sqlite3.Connection) -> list[Any]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
    columns = [
        (name, connection.execute(f"PRAGMA table_xinfo({name})").fetchall())
        for kind, name, *_ in rows
        if kind == "table"
    ]
    pragmas = [connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")]
    return [rows, columns, pragmas]


def fresh(path: Path) -> list[Any]:
    connection = sqlite3.connect(path)
    migrations.migrate(connection, path)
    found = schema(connection)
    connection.close()
    return found


@pytest.mark.parametrize("version", range(NEWEST + 1))
def test_upgraded_is_the_same_as_fresh(tmp_path: Path, version: int) -> None:
    path = tmp_path / "cluster.db"
    connection = at_version(path, version)
    before = connection.execute("SELECT * FROM events").fetchall() if version else []
    migrations.migrate(connection, path)
    assert schema(connection) == fresh(tmp_path / "fresh.db")
    assert connection.execute("SELECT * FROM events").fetchall() == before
    connection.close()
    copy = tmp_path / f"cluster.db.before-{version + 1:03}"
    assert copy.exists() == (0 < version < NEWEST)
    if copy.exists():
        kept = sqlite3.connect(copy)
        assert kept.execute("PRAGMA user_version").fetchone() == (version,)
        assert kept.execute("SELECT * FROM events").fetchall() == before
        assert kept.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        kept.close()
    assert {path.name for path in tmp_path.iterdir()} <= {"cluster.db", "fresh.db", copy.name}


KILLED = """
import os, sqlite3, sys
from pathlib import Path
from retirecluster.domain.lifecycle import FINAL, State
from retirecluster.store import migrations
path, dying, late = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "late"
connection = sqlite3.connect(path)
connection.isolation_level = None
connection.execute("PRAGMA journal_mode = WAL")
connection.create_function("die", 0, lambda: os.kill(os.getpid(), 9))
known = migrations.scripts()
def scripts():
    return [(n, s + "\\nSELECT die();" if n == dying and not late else s) for n, s in known]
migrations.scripts = scripts
def reached(name):
    if late and connection.execute("PRAGMA user_version").fetchone()[0] == dying:
        os.kill(os.getpid(), 9)
migrations.migrate(connection, path, reached)
"""


@pytest.mark.parametrize("when", ["within", "late"])
@pytest.mark.parametrize("dying", range(1, NEWEST + 1))
def test_killed_while_it_migrates(tmp_path: Path, dying: int, when: str) -> None:
    path = tmp_path / "cluster.db"
    at_version(path, dying - 1).close()
    process = subprocess.run([sys.executable, "-c", KILLED, str(path), str(dying), when], env=os.environ, timeout=60)
    assert process.returncode == -9
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (dying - (when == "within"),)
    migrations.migrate(connection, path)
    assert schema(connection) == fresh(tmp_path / "fresh.db")
    connection.close()


def test_the_checks_know_the_states_of_the_lifecycle_table(tmp_path: Path) -> None:
    """One home for each fact: what the SQL says again is held against it."""
    script = dict(migrations.scripts())[1]
    stated = re.search(r"state\s+TEXT NOT NULL CHECK \(state IN \((.*?)\)\)", script, re.DOTALL)
    final = re.search(r"WHEN OLD.state IN \((.*?)\) AND", script)
    assert stated is not None and final is not None
    assert set(re.findall(r"'(\w+)'", stated[1])) == {state.value for state in State}
    assert set(re.findall(r"'(\w+)'", final[1])) == {state.value for state in FINAL}
