"""Files on the client's side: which are meant by --input, and where those of a task may be put."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.client.commands_files import chosen
from retirecluster.client.local_files import is_same, local_inputs, place_for, put_in_place
from retirecluster.domain.errors import ClusterError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos/more").mkdir(parents=True)
    for name in ("photos/1.jpg", "photos/more/2.jpg", "a=b", "film.mov"):
        (tmp_path / name).write_text(name)
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    return tmp_path


def names(*texts: str) -> dict[str, str]:
    return {each["name"]: os.path.relpath(each["path"]) for each in local_inputs(texts)}


def test_which_files_are_meant(here: Path) -> None:
    assert names("film.mov") == {"film.mov": "film.mov"}
    assert names("film.mov=in/f") == {"in/f": "film.mov"}
    assert names(f"{here}/film.mov") == {"film.mov": "film.mov"}
    assert names("a=b") == {"a=b": "a=b"}
    assert names("a=b=c") == {"c": "a=b"}
    assert names("photos") == {"photos/1.jpg": "photos/1.jpg", "photos/more/2.jpg": "photos/more/2.jpg"}
    assert names("photos/=p") == {"p/1.jpg": "photos/1.jpg", "p/more/2.jpg": "photos/more/2.jpg"}
    assert [each.get("executable", False) for each in local_inputs(["run", "film.mov"])] == [True, False]


@pytest.mark.parametrize("text", ["nothing", "film.mov=../x", "film.mov=/", "film.mov=nul", "empty", "linked", "pipe"])
def test_what_is_not_taken(here: Path, text: str) -> None:
    (here / "empty").mkdir()
    (here / "linked").mkdir()
    (here / "linked/passwd").symlink_to("/etc/passwd")
    os.mkfifo(here / "pipe")
    if text == "film.mov=/":
        assert names(text) == {"film.mov": "film.mov"}
        return
    with pytest.raises(ClusterError):
        local_inputs([text])


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "a\\b", "C:x", "nul", "x\n", ""])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(ClusterError):
        place_for(tmp_path / "got", name)


@given(st.text(max_size=20))
def test_a_place_is_below_the_folder_or_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "got"
    try:
        place = place_for(folder, name)
    except (ClusterError, UnicodeEncodeError):
        return
    assert place.resolve().is_relative_to(folder.resolve())


def test_links_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    (tmp_path / "got/out").symlink_to(tmp_path)
    with pytest.raises(ClusterError, match="is a link"):
        place_for(tmp_path / "got", "out/x")
    (tmp_path / "got/file").touch()
    with pytest.raises(ClusterError, match="is a file"):
        place_for(tmp_path / "got", "file/x")


def test_nothing_is_replaced_unless_told(tmp_path: Path) -> None:
    draft, target = tmp_path / "draft", tmp_path / "target"
    draft.write_text("new")
    target.write_text("old")
    with pytest.raises(ClusterError, match="--force"):
        put_in_place(draft, target, force=False)
    assert target.read_text() == "old" and draft.exists()
    put_in_place(draft, target, force=True)
    assert target.read_text() == "new" and not draft.exists()
    draft.write_text("newer")
    put_in_place(draft, tmp_path / "other", force=False)
    assert (tmp_path / "other").read_text() == "newer" and not draft.exists()
    # A link with that name is replaced, not followed.
    (tmp_path / "link").symlink_to(target)
    draft.write_text("newest")
    put_in_place(draft, tmp_path / "link", force=True)
    assert target.read_text() == "new" and not (tmp_path / "link").is_symlink()
    assert is_same(target, sha256(b"new").hexdigest(), 3)
    assert not is_same(target, sha256(b"new").hexdigest(), 4) and not is_same(tmp_path, "", 0)


def test_which_of_a_tasks_files_are_got() -> None:
    def file(name: str, epoch: int = 1) -> dict[str, object]:
        return {"name": name, "epoch": epoch, "sha256": f"{name}-{epoch}"}

    files = [file("a.png", 2), file("a.png", 1), file("b/c.txt")]
    assert {each["sha256"] for each in chosen(files, [])} == {"a.png-2", "b/c.txt-1"}
    assert [each["sha256"] for each in chosen(files, ["*.png"])] == ["a.png-2"]
    assert [each["name"] for each in chosen(files, ["b/**"])] == ["b/c.txt"]
    with pytest.raises(ClusterError, match=r"there are: .*a\.png"):
        chosen(files, ["c"])
