"""A backup is one sound file; restored, nothing that was granted after it can be taken for current."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from retirecluster.domain.devices import profile_from_register
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.replay import TaskFacts, replay
from retirecluster.store.__main__ import main
from retirecluster.store.backup import RESTORE_STEP, back_up, restore, timestamp
from retirecluster.store.folder import DataFolder, Mark, lock_folder
from retirecluster.store.integrity import check_file
from tests.store.folders import DEVICE, NOW, MadeFolder, column, populated, restored

LATER = NOW.wall_s + 1000
STATES = "SELECT name, state FROM tasks"
EPOCHS = "SELECT name, epoch FROM tasks"


def message_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(ClusterError) as caught:
        call(*arguments)
    assert caught.value.code == "bad_config"
    assert "\n" not in caught.value.message
    return caught.value.message


def test_a_backup_is_one_checked_file(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    made = back_up(files, None, 1_000_000_000.0)
    assert made == files.backups / "cluster-20010909T014640Z.db" == files.backups / f"cluster-{timestamp(1e9)}.db"
    assert [path.name for path in files.backups.iterdir()] == [made.name]
    assert stat.S_IMODE(made.stat().st_mode) == 0o600 and stat.S_IMODE(files.backups.stat().st_mode) == 0o700
    found = check_file(made, "", thorough=True)
    assert found is not None and found.cluster_id == files.cluster_id()
    copy = sqlite3.connect(made)
    assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert dict(copy.execute(STATES)) == column(files, STATES)
    copy.close()


def test_a_backup_while_it_is_written_to(tmp_path: Path) -> None:
    made = MadeFolder(tmp_path / "main")
    stop = threading.Event()
    errors: list[str] = []

    def copy_again_and_again() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            try:
                back_up(made.files, tmp_path / f"copy-{number % 3}.db", LATER)
            except ClusterError as error:
                errors.append(error.message)

    copying = threading.Thread(target=copy_again_and_again)
    copying.start()
    for number in range(400):
        made.submit(f"task-{number}")
        made.commit()
    stop.set()
    copying.join()
    assert not errors
    for path in tmp_path.glob("copy-*.db"):
        copy = sqlite3.connect(path)
        names = [name for (name,) in copy.execute("SELECT name FROM tasks ORDER BY seq")]
        assert names == [f"task-{number}" for number in range(len(names))]
        assert len(replay(copy.execute("SELECT * FROM events ORDER BY event_no")).tasks) == len(names)
        copy.close()
    made.close()


def test_what_a_backup_never_replaces(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    precious = tmp_path / "letter.txt"
    precious.write_text("dear")
    assert "letter.txt" in message_of(back_up, files, precious, LATER)
    assert "is the database itself" in message_of(back_up, files, files.database, LATER)
    assert "is a folder" in message_of(back_up, files, tmp_path, LATER)
    assert "could not be copied" in message_of(back_up, files, tmp_path / "no" / "where.db", LATER)
    assert "is missing" in message_of(back_up, DataFolder(tmp_path), None, LATER)
    assert precious.read_text() == "dear"
    again = tmp_path / "again.db"
    back_up(files, again, LATER)
    back_up(files, again, LATER)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.db", "letter.txt", "main"]


def test_a_damaged_database_is_not_backed_up_as_sound(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    data = bytearray(files.database.read_bytes())
    data[3 * 4096 : 4 * 4096] = b"\xa5" * 4096
    files.database.write_bytes(data)
    output = tmp_path / "copy.db"
    message_of(back_up, files, output, LATER)
    assert not output.exists() and not list(tmp_path.glob(".*"))


def test_a_restore_makes_every_old_attempt_stale(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    before, sessions = column(files, EPOCHS), column(files, "SELECT device_id, session_no FROM devices")
    backup = back_up(files, tmp_path / "b.db", LATER)
    done = restore(backup, files, LATER)
    assert column(files, STATES) == {
        "completed": "completed",
        "failed-once": "queued",
        "assigned": "queued",
        "running": "queued",
        "cancelling": "cancelled",
        "once-assigned": "lost",
        "once-running": "lost",
        "once-cancelling": "lost",
        "queued": "queued",
        "once-queued": "held",
        "held": "held",
    }
    assert done.tasks == {"queued": 4, "cancelled": 1, "lost": 3, "held": 2}
    after = column(files, EPOCHS)
    assert {name: after[name] - before[name] for name in after if name != "completed"} == dict.fromkeys(
        set(after) - {"completed"}, RESTORE_STEP
    )
    assert after["completed"] == before["completed"] == 1
    assert column(files, "SELECT device_id, session_no - 1000000 FROM devices") == sessions
    assert column(files, "SELECT 1, incarnation FROM cluster") == {1: RESTORE_STEP + 1}
    outcomes = column(files, "SELECT t.name, a.outcome FROM attempts a JOIN tasks t ON t.seq = a.task_seq")
    assert outcomes["completed"] == "completed" and outcomes["failed-once"] == "failed"
    assert {outcomes[name] for name in outcomes.keys() - {"completed", "failed-once"}} == {"restored"}
    assert done.aside is not None and check_file(done.aside, "") is not None
    assert not files.mark.exists() and not Path(f"{files.database}-wal").exists()


def test_the_log_of_a_restored_database_tells_it_all(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    restore(back_up(files, tmp_path / "b.db", LATER), files, LATER)
    connection = sqlite3.connect(files.database)
    rows = connection.execute("SELECT * FROM events ORDER BY event_no").fetchall()
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    stored = connection.execute("SELECT task_id, state, epoch, charged, crashes, reason FROM tasks")
    assert replay(rows).tasks == {row[0]: TaskFacts(*row[1:]) for row in stored}
    [told] = [row for row in rows if row[2] == "cluster"]
    assert told[3] == "restored" and '"epochs_raised_by":1000000' in told[6] and '"backup":"b.db"' in told[6]
    connection.close()


def test_it_goes_on_with_epochs_that_nobody_has_seen(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    restore(back_up(files, tmp_path / "b.db", LATER), files, LATER)
    connection = sqlite3.connect(files.database)
    scheduler = restored(connection)
    scheduler.fleet.set_flags(scheduler.devices["phone"], NOW, cordoned=False)
    profile = profile_from_register("phone", DEVICE)
    claims = {(task.task_id, 1): "running" for task in scheduler.ledger.tasks.values()}
    answer = scheduler.register(profile, DEVICE, claims, NOW)
    assert answer.resume == [] and set(answer.stop) == set(claims)
    turn = scheduler.take_turn(NOW)
    granted = {effect.task.name: effect.attempt.epoch for effect in turn.effects if hasattr(effect, "attempt")}
    assert set(granted) == {"failed-once", "assigned", "running", "queued"}
    assert min(granted.values()) > RESTORE_STEP
    connection.close()


def test_the_same_backup_twice_jumps_further(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    backup = back_up(files, tmp_path / "b.db", LATER)
    epochs = []
    for number in range(3):
        restore(backup, files, LATER + number)
        epochs.append(column(files, EPOCHS)["queued"])
    assert epochs == [RESTORE_STEP, 2 * RESTORE_STEP, 3 * RESTORE_STEP]
    # Of a backup made after a restore the numbers go on from there, whatever the folder says.
    restore(back_up(files, tmp_path / "c.db", LATER), files, LATER + 9)
    assert column(files, EPOCHS)["queued"] == 4 * RESTORE_STEP
    files.database.write_bytes(b"damaged beyond reading" * 1000)
    restore(backup, files, LATER + 10)
    assert column(files, EPOCHS)["queued"] > 4 * RESTORE_STEP


def test_a_restore_into_an_empty_folder(tmp_path: Path) -> None:
    files = populated(tmp_path / "main")
    backup = back_up(files, tmp_path / "b.db", LATER)
    fresh = DataFolder(tmp_path / "other")
    done = restore(backup, fresh, LATER)
    assert done.aside is None and fresh.cluster_id() == files.cluster_id()
    assert column(fresh, STATES)["queued"] == "queued"


def test_what_a_restore_refuses_changes_nothing(tmp_path: Path) -> None:
    files, other = populated(tmp_path / "main"), populated(tmp_path / "other")
    before = {path.name: path.read_bytes() for path in files.path.iterdir()}
    stranger = back_up(other, tmp_path / "stranger.db", LATER)
    assert "belongs to" in message_of(restore, stranger, files, LATER)
    (tmp_path / "text.db").write_text("no database\n" * 1000)
    assert "text.db" in message_of(restore, tmp_path / "text.db", files, LATER)
    (tmp_path / "empty.db").touch()
    assert "is empty" in message_of(restore, tmp_path / "empty.db", files, LATER)
    assert "cannot be read" in message_of(restore, tmp_path / "absent.db", files, LATER)
    cut = tmp_path / "cut.db"
    cut.write_bytes(stranger.read_bytes()[:20_000])
    assert "damaged" in message_of(restore, cut, files, LATER)
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE photos (a)")
    foreign.close()
    assert "another program" in message_of(restore, tmp_path / "foreign.db", files, LATER)
    held = lock_folder(files.path)
    assert "in use by another main" in message_of(restore, back_up(files, tmp_path / "b.db", LATER), files, LATER)
    os.close(held)
    after = {path.name: path.read_bytes() for path in files.path.iterdir() if not path.name.startswith("lock")}
    after.pop("cluster.db-shm", None), after.pop("cluster.db-wal", None)
    assert after == before


def test_the_wal_of_the_replaced_database_goes_with_it(tmp_path: Path) -> None:
    made = MadeFolder(tmp_path / "main")
    made.populate()
    backup = back_up(made.files, tmp_path / "b.db", LATER)
    made.submit("after the backup")
    made.commit()
    wal = Path(f"{made.files.database}-wal").read_bytes()
    assert wal
    done = restore(backup, made.files, LATER)  # as after a kill: the connection is still open
    assert done.aside is not None and Path(f"{done.aside}-wal").read_bytes() == wal
    assert "after the backup" not in column(made.files, STATES)
    replaced = sqlite3.connect(done.aside)
    assert ("after the backup",) in replaced.execute("SELECT name FROM tasks").fetchall()
    replaced.close()
    made.close()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    from tests.store.test_schema import at_version

    old = tmp_path / "old.db"
    at_version(old, 1).close()
    fresh = DataFolder(tmp_path / "main")
    restore(old, fresh, LATER)
    assert column(fresh, "SELECT 1, commits FROM cluster") == {1: 0}


def test_the_program(tmp_path: Path, capsys: Any) -> None:
    files = populated(tmp_path / "main")
    assert main(["backup", "--data-dir", str(files.path), "--output", str(tmp_path / "b.db")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'b.db'}\n"
    assert main(["restore", "--data-dir", str(files.path), str(tmp_path / "b.db")]) == 0
    assert "2 held, 3 lost, 4 queued" in capsys.readouterr().out
    assert main(["restore", "--data-dir", str(files.path), str(tmp_path / "absent.db")]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "absent.db" in said.err


def test_a_mark_is_never_trusted_more_than_it_says(tmp_path: Path) -> None:
    path = tmp_path / "mark"
    assert Mark.read(path) == 0
    path.write_bytes(b"")
    assert Mark.read(path) == 0
    path.write_bytes(b"\x00" * 20)
    assert Mark.read(path) == 0
    mark = Mark(path)
    mark.put(7)
    mark.put(12)
    mark.sync()
    mark.close()
    assert Mark.read(path) == 12
