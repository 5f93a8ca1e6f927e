"""Whatever a database file was made of: it is taken as it is, or refused in one line; it is never a traceback."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.scheduler import Scheduler, Settings
from retirecluster.store import integrity
from retirecluster.store.database import Database
from retirecluster.store.folder import DataFolder, Mark
from retirecluster.store.integrity import check_file
from tests.store.folders import NOW, MadeFolder, populated


def start(folder: Path) -> str:
    """Open and read a folder as the main does; what it says against it, or nothing."""
    reactor: Any = Clock()
    reactor.callWhenRunning = lambda *_: None
    try:
        database = Database.open(folder, NOW, reactor)
    except ClusterError as error:
        assert error.code == "bad_config"
        return error.message
    try:
        database.restore(Scheduler.create(Settings(), Random(1), NOW), NOW)
    except ClusterError as error:
        assert error.code == "bad_config"
        return error.message
    finally:
        database.mark.close()
        os.close(database.lock)
    return ""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = populated(tmp_path_factory.mktemp("sound") / "main")
    assert start(files.path) == ""
    return files.path


def test_flipped_bits(sound: Path, tmp_path: Path) -> None:
    random = Random(11)
    size = (sound / "cluster.db").stat().st_size
    refused = 0
    for number in range(150):
        folder = tmp_path / str(number)
        shutil.copytree(sound, folder)
        with (folder / "cluster.db").open("r+b") as file:
            for _ in range(random.choice((1, 8, 64))):
                at = random.randrange(size)
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << random.randrange(8)]))
        said = start(folder)
        assert "\n" not in said
        if said:
            refused += 1
            assert (str(folder) in said and "retire-cluster restore" in said) or "newer retirecluster" in said, said
        shutil.rmtree(folder)
    # Flips in unused bytes and in texts that are valid either way cannot be seen: SQLite keeps no checksums of pages.
    assert refused > 50


def test_cut_anywhere(sound: Path, tmp_path: Path) -> None:
    size = (sound / "cluster.db").stat().st_size
    for length in (0, 1, 15, 16, 99, 100, 4095, 4096, 4097, size // 2, size - 4096, size - 1):
        folder = tmp_path / str(length)
        shutil.copytree(sound, folder)
        os.truncate(folder / "cluster.db", length)
        assert str(folder / "cluster.db") in start(folder), length


def test_a_large_database_is_looked_at_where_it_matters(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrity, "FULL_CHECK_BYTES", 1000)
    folder = tmp_path / "main"
    shutil.copytree(sound, folder)
    assert start(folder) == ""
    connection = sqlite3.connect(folder / "cluster.db")
    [(page,)] = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'devices'").fetchall()
    connection.close()
    with (folder / "cluster.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    assert "is damaged" in start(folder)


def test_a_mark_that_is_behind_is_no_reason(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "main"
    shutil.copytree(sound, folder)
    files = DataFolder(folder)
    noted = Mark.read(files.mark)
    files.mark.unlink()
    assert start(folder) == "" and Mark.read(files.mark) == noted
    mark = Mark(files.mark)
    mark.put(noted + 1)
    mark.close()
    assert "lacks the last 1 of" in start(folder)


def test_an_interrupted_first_start_is_begun_again(tmp_path: Path) -> None:
    for name, make in (
        ("nothing", lambda path: None),
        ("an empty file", lambda path: (path / "cluster.db").touch()),
        ("tables, and no cluster in them", lambda path: _tables(path / "cluster.db")),
    ):
        folder = tmp_path / name
        folder.mkdir()
        make(folder)
        assert start(folder) == "", name
        assert DataFolder(folder).cluster_id()


def _tables(path: Path) -> None:
    from tests.store.test_schema import NEWEST, at_version

    connection = at_version(path, NEWEST)
    connection.execute("DELETE FROM cluster")
    connection.close()


def test_an_id_file_that_was_never_written_out_is_mended(tmp_path: Path) -> None:
    made = MadeFolder(tmp_path / "main")
    known = made.files.cluster_id()
    files = made.close()
    files.identity.write_bytes(b"")
    assert start(files.path) == "" and files.cluster_id() == known


def test_a_check_changes_nothing(sound: Path) -> None:
    before = {path.name: path.read_bytes() for path in sound.iterdir()}
    for thorough in (False, True):
        assert check_file(sound / "cluster.db", "", thorough=thorough) is not None
    after = {path.name: path.read_bytes() for path in sound.iterdir() if not path.name.endswith(("-shm", "-wal"))}
    assert after == before
