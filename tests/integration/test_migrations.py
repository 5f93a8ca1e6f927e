"""A main that is killed between two steps of a migration: upgraded at the next start, a copy kept, nothing lost."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from retirecluster.domain import failpoints
from retirecluster.store import migrations
from retirecluster.store.folder import DataFolder
from tests.integration.cluster import RealCluster
from tests.store.folders import populated
from tests.store.test_schema import NEWEST, fresh, schema

pytestmark = pytest.mark.integration
OLD = range(1, NEWEST)
PAUSED = "failed-once"
"""The task whose pause before its next attempt ends while the test runs."""


def tables(connection: sqlite3.Connection) -> list[str]:
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
    return [name for (name,) in connection.execute(query)]


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def old_folder(path: Path, version: int) -> DataFolder:
    """A folder as the program with this schema left it: its own SQL files, tasks in every state that matters."""
    files = populated(path)
    template = files.database.with_name("template.db")
    with closing(sqlite3.connect(files.database)) as made:
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for suffix in ("-wal", "-shm"):
        Path(f"{files.database}{suffix}").unlink(missing_ok=True)
    files.database.rename(template)
    with closing(sqlite3.connect(files.database)) as old:
        old.isolation_level = None
        old.execute("PRAGMA journal_mode = WAL")
        for number, script in migrations.scripts()[:version]:
            migrations.apply(old, number, script)
        old.execute("ATTACH ? AS template", (str(template),))
        for table in tables(old):
            names = ", ".join(columns(old, table))
            old.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM template.{table}")
    template.unlink()
    if version == 1:
        files.mark.unlink()  # it came with the second
    return files


def contents(path: Path, like: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """Every table's rows: of the columns that are there, or of those `like` another database has."""
    with closing(sqlite3.connect(path)) as connection:
        wanted = like or {table: columns(connection, table) for table in tables(connection)}
        return {
            table: sorted(connection.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall(), key=repr)
            for table, names in wanted.items()
            if table != "cluster"
        }


def shape(path: Path) -> dict[str, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        return {table: columns(connection, table) for table in tables(connection)}


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return version


@pytest.mark.parametrize(
    ("version", "dying"),
    [
        pytest.param(old, nth, marks=() if old <= 2 and nth == 1 else pytest.mark.slow)
        for old in OLD
        for nth in range(1, NEWEST - old + 1)
    ],
)
def test_killed_between_two_steps(cluster: RealCluster, tmp_path: Path, version: int, dying: int) -> None:
    files = old_folder(cluster.folder / "main", version)
    before, known = contents(files.database), shape(files.database)
    assert version_of(files.database) == version and len(before["tasks"]) > 10 and before["events"]
    cluster.launch_main(environ={failpoints.VARIABLE: f"{failpoints.MIGRATING}:{dying}"})
    assert cluster.processes.pop("main").wait(30) == -signal.SIGKILL
    assert version_of(files.database) == version + dying, "each step is there whole, and the next is not"
    assert contents(files.database, known) == before
    kept = files.path / f"cluster.db.before-{version + 1:03}"
    assert version_of(kept) == version and contents(kept) == before, "the copy was made before the first step"

    cluster.start_main()
    assert contents(kept) == before, "the copy stays as it was"
    listed = {task["name"]: task["status"] for task in cluster.get("tasks?limit=100")["tasks"]}
    state_at, name_at = known["tasks"].index("state"), known["tasks"].index("name")
    assert listed.pop(PAUSED) in ("retrying", "queued")
    waiting = [row for row in before["tasks"] if row[name_at] != PAUSED]
    assert listed == {row[name_at]: row[state_at] for row in waiting}, "what ran waits for its device"
    [task_id] = cluster.submit({"task_type": "echo"})
    assert cluster.get(f"tasks/{task_id}")["status"] == "queued"
    cluster.kill("main", signal.SIGTERM)
    after = contents(files.database, known)
    for table in ("attempts", "results"):
        assert after[table] == before[table]
    assert set(after["events"]) >= set(before["events"]) and set(after["tasks"]) >= set(waiting)
    with closing(sqlite3.connect(files.database)) as connection:
        assert schema(connection) == fresh(tmp_path / "fresh.db")
