"""Backups with tasks' files: links or copies, put back only with the right hash."""

from __future__ import annotations

import os
import sqlite3
from hashlib import sha256
from pathlib import Path
from typing import Any

from retirecluster.store import file_backup
from retirecluster.store.__main__ import main
from retirecluster.store.folder import DataFolder
from tests.store.folders import NOW, populated

CONTENTS = (b"one", b"two" * 1000, b"")


def place(folder: Path, data: bytes) -> Path:
    digest = sha256(data).hexdigest()
    return folder / digest[:2] / digest[2:4] / digest


def with_contents(folder: Path, contents: tuple[bytes, ...] = CONTENTS) -> DataFolder:
    files = populated(folder)
    database = sqlite3.connect(files.database)
    for data in contents:
        path = place(files.files, data)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        database.execute("INSERT INTO files VALUES (?, ?, ?, ?)", (path.name, len(data), NOW.wall_s, NOW.wall_s))
    database.commit()
    database.close()
    return files


def backup(files: DataFolder, output: Path, *more: str) -> None:
    assert main(["backup", "--data-dir", str(files.path), "--output", str(output), *more]) == 0


def restore(source: Path, folder: Path, *more: str) -> None:
    assert main(["restore", "--data-dir", str(folder), *more, str(source)]) == 0


def test_there_and_back(tmp_path: Path, capsys: Any) -> None:
    files, copy = with_contents(tmp_path / "main"), tmp_path / "copy.db"
    backup(files, copy)
    assert capsys.readouterr().out.splitlines() == [str(copy), "with 3 files, 2.93 KiB"]
    linked = place(file_backup.folder_of(copy), b"one")
    assert linked.stat().st_ino == place(files.files, b"one").stat().st_ino
    restore(copy, tmp_path / "new")
    assert "tasks' files: 3 files" in capsys.readouterr().out
    for data in CONTENTS:
        assert place(tmp_path / "new" / "files", data).read_bytes() == data


def test_a_disk_without_links_gets_copies(tmp_path: Path, monkeypatch: Any) -> None:
    def no_link(*_: object) -> None:
        raise OSError(18, "another disk")

    monkeypatch.setattr(os, "link", no_link)
    files, copy = with_contents(tmp_path / "main"), tmp_path / "copy.db"
    place(files.files, b"one").write_bytes(b"ONE")  # damaged, with the right length
    backup(files, copy)
    folder = file_backup.folder_of(copy)
    assert not place(folder, b"one").exists()
    assert place(folder, CONTENTS[1]).stat().st_ino != place(files.files, CONTENTS[1]).stat().st_ino
    assert place(folder, CONTENTS[1]).stat().st_mode & 0o777 == 0o600


def test_what_is_damaged_or_missing_in_a_backup_is_not_put_back(tmp_path: Path, capsys: Any) -> None:
    files, copy = with_contents(tmp_path / "main"), tmp_path / "copy.db"
    backup(files, copy)
    place(file_backup.folder_of(copy), b"one").write_bytes(b"ONE")
    place(file_backup.folder_of(copy), CONTENTS[1]).unlink()
    restore(copy, tmp_path / "new")
    assert "1 files, 0 B; 1 are missing; 1 are damaged and were left out" in capsys.readouterr().out
    assert not place(tmp_path / "new" / "files", b"one").exists()


def test_a_sound_file_of_the_main_stays_and_a_damaged_one_is_mended(tmp_path: Path) -> None:
    files, copy = with_contents(tmp_path / "main"), tmp_path / "copy.db"
    backup(files, copy)
    damaged = place(files.files, CONTENTS[1])
    damaged.unlink()
    damaged.write_bytes(b"TWO" * 1000)
    before = place(files.files, b"one").stat().st_ino
    restore(copy, files.path)
    assert damaged.read_bytes() == CONTENTS[1]
    assert place(files.files, b"one").stat().st_ino == before


def test_a_nightly_backup_to_one_name_keeps_what_it_names_and_no_more(tmp_path: Path, capsys: Any) -> None:
    files, copy = with_contents(tmp_path / "main"), tmp_path / "copy.db"
    backup(files, copy)
    database = sqlite3.connect(files.database)
    database.execute("DELETE FROM files WHERE sha256 = ?", (place(files.files, b"one").name,))
    database.commit()
    database.close()
    place(files.files, CONTENTS[1]).unlink()  # removed between the rows and now
    capsys.readouterr()
    backup(files, copy)
    folder = file_backup.folder_of(copy)
    assert not place(folder, b"one").exists() and place(folder, b"").exists()
    # It was there the last time, and is what its name says: still good.
    assert place(folder, CONTENTS[1]).exists()


def test_without_files(tmp_path: Path, capsys: Any) -> None:
    files, copy = with_contents(tmp_path / "main"), tmp_path / "copy.db"
    backup(files, copy, "--without-files")
    assert capsys.readouterr().out.splitlines() == [str(copy)]
    assert not file_backup.folder_of(copy).exists()
    backup(files, copy)
    restore(copy, tmp_path / "new", "--without-files")
    assert not (tmp_path / "new" / "files").exists()
