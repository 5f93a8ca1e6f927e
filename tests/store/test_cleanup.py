"""Retention removes what ended long ago, a little at a time, and nothing else."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retirecluster.domain.lifecycle import FINAL, State
from retirecluster.domain.scheduler import Moment
from retirecluster.store.cleanup import (
    BATCH_ROWS,
    advance_retention_txn,
    forget_events_txn,
    forget_refused_txn,
    forget_tasks_txn,
)
from tests.store.folders import NOW, MadeFolder
from tests.store.test_schema import FIRST_ATTEMPT_COLUMNS, NEWEST, at_version

DAY_S = 86_400.0


def rows(connection: sqlite3.Connection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query).fetchall()


def database(path: Path, tasks: list[tuple[State, int, float]]) -> sqlite3.Connection:
    """Tasks as (state, attempts, ended how many days ago), in that order."""
    connection = at_version(path, NEWEST)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM attempts")
    for seq, (state, attempts, days) in enumerate(tasks, 1):
        ended = NOW.wall_s - days * DAY_S if state in FINAL else None
        connection.execute(
            "INSERT INTO tasks (seq, task_id, task_type, name, priority, state, epoch, charged, crashes, order_s, "
            "created_at, finished_at, reason, timeout_s, max_retries, delivery, on_disconnect, labels, requirements, "
            "idempotency_key, body) VALUES (?, ?, 'echo', '', 1, ?, ?, 0, 0, 0, 0, ?, '', 1, 1, 'at_least_once', "
            "'keep', '', '', ?, '{}')",
            (seq, f"task-{seq}", state.value, attempts, ended, f"key-{seq}"),
        )
        for epoch in range(1, attempts + 1):
            connection.execute(
                f"INSERT INTO attempts ({FIRST_ATTEMPT_COLUMNS}) VALUES (?, ?, 'd', 1, 0, 0, 0, 'failed', 1, '')",
                (seq, epoch),
            )
        if attempts and state in FINAL:
            connection.execute("INSERT INTO results VALUES (?, ?, '{}')", (seq, attempts))
    connection.commit()
    return connection


TASKS = st.lists(
    st.tuples(st.sampled_from(sorted(State)), st.integers(0, 5), st.sampled_from([1.0, 29.9, 30.1, 400.0])), max_size=12
)


@given(TASKS, st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_only_what_ended_long_ago_goes(tmp_path_factory: pytest.TempPathFactory, tasks: list, batch_rows: int) -> None:
    connection = database(tmp_path_factory.mktemp("d") / "c.db", tasks)
    gone: Counter[State] = Counter()
    more = True
    while more:
        size = sum(rows(connection, f"SELECT count(*) FROM {t}")[0][0] for t in ("tasks", "attempts", "results"))
        batch = forget_tasks_txn(connection.cursor(), NOW.wall_s - 30 * DAY_S, batch_rows)
        connection.commit()
        after = sum(rows(connection, f"SELECT count(*) FROM {t}")[0][0] for t in ("tasks", "attempts", "results"))
        assert size - after == batch.rows
        assert batch.rows <= batch_rows or sum(batch.tasks.values()) == 1
        gone.update(batch.tasks)
        more = batch.more
    kept = [seq for seq, (state, _, days) in enumerate(tasks, 1) if not (state in FINAL and days > 30)]
    assert [row[0] for row in rows(connection, "SELECT seq FROM tasks ORDER BY seq")] == kept
    assert gone == Counter(state for state, _, days in tasks if state in FINAL and days > 30)
    for table in ("attempts", "results"):
        assert rows(connection, f"SELECT * FROM {table} WHERE task_seq NOT IN (SELECT seq FROM tasks)") == []
    assert sum(row[0] for row in rows(connection, "SELECT count(*) FROM attempts")) == sum(
        tasks[seq - 1][1] for seq in kept
    )
    connection.close()


def test_a_batch_is_small_and_found_by_an_index(tmp_path: Path) -> None:
    connection = database(tmp_path / "c.db", [(State.COMPLETED, 1, 100.0)] * 1000)
    batch = forget_tasks_txn(connection.cursor(), NOW.wall_s)
    connection.commit()
    assert batch.rows <= BATCH_ROWS and batch.more and batch.tasks == {State.COMPLETED: BATCH_ROWS // 3}
    plan = rows(
        connection,
        "EXPLAIN QUERY PLAN SELECT seq FROM tasks WHERE finished_at IS NOT NULL AND "
        "finished_at < 5.0 ORDER BY finished_at LIMIT 500",
    )
    assert "tasks_by_end" in str(plan)
    connection.close()


def test_events_go_from_the_front_and_numbers_go_on(tmp_path: Path) -> None:
    made = MadeFolder(tmp_path / "main")
    for _ in range(30):
        made.submit("one")
    made.commit()
    connection = made.connection
    batch = forget_events_txn(connection.cursor(), 10, 15)
    assert batch.rows == 15 and batch.more
    connection.commit()
    assert forget_events_txn(connection.cursor(), 10, 15).rows == 5
    connection.commit()
    assert [row[0] for row in rows(connection, "SELECT event_no FROM events")] == list(range(21, 31))
    forget_events_txn(connection.cursor(), 0)
    connection.commit()
    assert rows(connection, "SELECT event_no FROM events") == [(30,)]
    made.close()


def test_refused_results_go(tmp_path: Path) -> None:
    connection = at_version(tmp_path / "c.db", NEWEST)
    for number in range(10):
        connection.execute(
            "INSERT INTO refused_results (at, task_id, epoch, device_id, kind, reason, document) "
            "VALUES (?, 't', 1, 'd', 'stale_attempt', '', '{}')",
            (float(number),),
        )
    assert forget_refused_txn(connection.cursor(), 4.0, 3).more
    connection.commit()
    assert not forget_refused_txn(connection.cursor(), 4.0, 3).more
    connection.commit()
    assert [row[0] for row in rows(connection, "SELECT at FROM refused_results")] == [4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    connection.close()


def test_counts_in_memory_shrink_with_the_rows(tmp_path: Path) -> None:
    made = MadeFolder(tmp_path / "main")
    made.populate()
    ledger = made.scheduler.ledger
    assert ledger.counts[State.COMPLETED] == 1
    batch = forget_tasks_txn(made.connection.cursor(), NOW.wall_s + 1)
    made.connection.commit()
    ledger.forget(batch.tasks)
    stored = dict(rows(made.connection, "SELECT state, count(*) FROM tasks GROUP BY state"))
    assert {state.value: count for state, count in ledger.counts.items() if count} == stored
    assert ledger.forgotten == 1
    # The cluster goes on: what is left ends, and a restart finds the same.
    made.scheduler.tasks.cancel(next(iter(ledger.tasks.values())), Moment(200.0, NOW.wall_s), "a person")
    made.commit()
    made.close()


def test_the_clock_of_retention_goes_on_no_faster_than_the_main_has_run(tmp_path: Path) -> None:
    with closing(at_version(tmp_path / "cluster.db", NEWEST)) as connection:
        cursor = connection.cursor()
        assert advance_retention_txn(cursor, 1000.0, 0.0) == 1000.0, "the first look believes the wall clock"
        assert advance_retention_txn(cursor, 4600.0, 3600.0) == 4600.0
        assert advance_retention_txn(cursor, 4600.0 + 10 * 365 * DAY_S, 3600.0) == 8200.0, "ten years ahead"
        assert advance_retention_txn(cursor, 11_800.0, 3600.0) == 11_800.0
        assert advance_retention_txn(cursor, 500.0, 3600.0) == 500.0, "it never goes ahead of the wall clock"
