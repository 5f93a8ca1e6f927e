"""Checkpoint folders: found again, removed at the end, by age and by size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed

from retirecluster.worker.checkpoints import DAY_S, Checkpoints


def at_once(work: Callable[[], Any]) -> Deferred[Any]:
    return succeed(work())


class Kept:
    def __init__(self, folder: Path, max_bytes: int = 2**30) -> None:
        self.folder = folder
        self.now = 1_000_000_000.0
        self.checkpoints = Checkpoints(
            lambda level: folder / f"level-{level}", lambda level: None, lambda: self.now, at_once, max_bytes=max_bytes
        )

    def use(self, task_id: str, size: int = 0, level: int = 1) -> Path:
        """An attempt has the folder, and leaves a file of that size."""
        path = Path(self.checkpoints.folder(task_id, level))
        (path / "state").write_bytes(b"x" * size)
        for each in (path / "state", path):
            os.utime(each, (self.now, self.now))
        self.checkpoints.left(task_id)
        return path

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*/*"))


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


def test_the_next_attempt_finds_what_the_last_one_left(kept: Kept) -> None:
    kept.use("task-1", 10)
    path = Path(Kept(kept.folder).checkpoints.folder("task-1", 1))  # also after a restart
    assert (path / "state").read_bytes() == b"x" * 10
    assert path.stat().st_mode & 0o777 == 0o700


def test_it_goes_when_the_task_is_over_and_not_while_it_is_used(kept: Kept) -> None:
    kept.checkpoints.folder("task-1", 1)
    kept.use("task-2", level=3)
    kept.checkpoints.forget("task-1")
    kept.checkpoints.forget("task-2")
    kept.checkpoints.forget("task-3")
    assert kept.names() == ["task-1"]
    kept.checkpoints.left("task-1")
    assert kept.names() == []
    kept.use("task-1")
    assert kept.names() == ["task-1"]  # it was said of what was there, and not for ever


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "-x", "a\0b", "ü", "x" * 65, ".removed-x"])
def test_an_id_that_is_no_name_gets_no_folder(kept: Kept, name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a checkpoint folder"):
        kept.checkpoints.folder(name, 1)
    assert kept.checkpoints.forget(name) is None
    assert kept.names() == []


def test_a_link_in_its_place_is_not_followed(kept: Kept, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "level-1").mkdir()
    (tmp_path / "level-1" / "task-1").symlink_to(tmp_path / "elsewhere")
    path = Path(kept.checkpoints.folder("task-1", 1))
    assert not path.is_symlink() and path.is_dir()


def test_old_ones_go_by_age(kept: Kept) -> None:
    kept.use("old")
    kept.now += 6 * DAY_S
    kept.use("newer")
    kept.checkpoints.clean()
    assert kept.names() == ["newer", "old"]
    kept.now += 2 * DAY_S
    kept.checkpoints.clean()
    assert kept.names() == ["newer"]


def test_the_oldest_go_by_size_but_not_one_in_use(tmp_path: Path) -> None:
    kept = Kept(tmp_path, max_bytes=200_000)
    for name in ("a", "b", "c", "d"):
        kept.now += 60
        kept.use(name, 80_000)
    kept.checkpoints.folder("a", 1)
    os.utime(tmp_path / "level-1" / "a", (0, 0))
    kept.checkpoints.clean()
    assert kept.names() == ["a", "c", "d"]


def test_what_was_renamed_and_not_yet_removed_goes_later(kept: Kept) -> None:
    (kept.folder / "level-1" / ".removed-task-1").mkdir(parents=True)
    kept.now += 10 * DAY_S
    os.utime(kept.folder / "level-1" / ".removed-task-1", (0, 0))
    kept.checkpoints.clean()
    assert kept.names() == []
