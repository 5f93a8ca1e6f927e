"""The worker's files without a main: the cache, folders on the disk, what is taken from them."""

from __future__ import annotations

import os
import socket
import stat
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retirecluster.domain.files import InputFile
from retirecluster.domain.units import GIB, MIB
from retirecluster.wire.codec import MAX_LINE_BYTES, encode_line
from retirecluster.worker.files import staging
from retirecluster.worker.files.cache import KEPT_FREE_BYTES, FileCache, NoRoomError, default_bytes
from retirecluster.worker.files.folders import fitting
from retirecluster.worker.files.staging import (
    Collected,
    Collector,
    DamagedError,
    OverQuotaError,
    make_folder,
    remove_folder,
)


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def opened(folder: Path, max_bytes: int = GIB, free_bytes: int = 100 * GIB) -> FileCache:
    cache = FileCache(folder, max_bytes, lambda _: free_bytes)
    cache.open()
    return cache


def put(cache: FileCache, data: bytes) -> str:
    cache.path(digest(data)).write_bytes(data)
    cache.added(digest(data), len(data))
    return digest(data)


# -- the cache


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = opened(tmp_path / "c", 30)
    one, two, three = (put(cache, bytes([n]) * 10) for n in range(3))
    assert cache.has(one)
    four = put(cache, b"d" * 10)
    assert [cache.has(each) for each in (one, two, three, four)] == [True, False, True, True]
    assert {path.name for path in cache.folder.iterdir()} == {one, three, four, "parts"}
    assert cache.total_bytes == 30


def test_what_is_pinned_stays(tmp_path: Path) -> None:
    cache = opened(tmp_path / "c", 10)
    one = put(cache, b"a" * 10)
    cache.pin([one, one])
    two = put(cache, b"b" * 10)
    assert cache.has(one) and not cache.has(two)
    cache.unpin([one])
    assert cache.shed() == 0
    cache.unpin([one])
    assert cache.shed() == 10 and cache.total_bytes == 0


def test_a_new_life_knows_what_is_there_and_in_which_order(tmp_path: Path) -> None:
    cache = opened(tmp_path / "c")
    digests = [put(cache, bytes([n])) for n in range(3)]
    for age, each in zip((1, 3, 2), digests, strict=True):
        os.utime(cache.path(each), (1e9 - age, 1e9 - age))
    (cache.folder / "README").write_text("not ours")
    (cache.folder / ("0" * 64)).symlink_to("/etc/passwd")
    again = opened(tmp_path / "c", 2)
    assert again.total_bytes == 3
    again.unpin([])
    assert [again.has(each) for each in digests] == [True, False, True]
    assert not again.has("0" * 64)


def test_room_is_made_and_missed(tmp_path: Path) -> None:
    free = [KEPT_FREE_BYTES + 5]
    cache = FileCache(tmp_path / "c", GIB, lambda _: free[0])
    cache.open()
    put(cache, b"x" * 10)
    cache.make_room(5)
    assert cache.total_bytes == 10
    with pytest.raises(NoRoomError, match=r"are needed, the disk .* left"):
        cache.make_room(6)
    assert cache.total_bytes == 0
    assert 0 < default_bytes(tmp_path) <= 2 * GIB


# -- inputs


def test_inputs_are_put_in(tmp_path: Path) -> None:
    cache = opened(tmp_path / "c")
    one, two = put(cache, b"one"), put(cache, b"two")
    inputs = [InputFile("a/b/one", one), InputFile("a/two.sh", two, True), InputFile("copy", one)]
    folder = tmp_path / "task"
    make_folder(folder, inputs, cache.path, None)
    assert (folder / "a/b/one").read_bytes() == (folder / "copy").read_bytes() == b"one"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert modes == {"task": 0o700, "a": 0o700, "b": 0o700, "one": 0o600, "two.sh": 0o700, "copy": 0o600}
    (folder / "copy").write_bytes(b"changed by the task")
    assert cache.path(one).read_bytes() == b"one"


def test_a_damaged_cache_is_not_believed(tmp_path: Path) -> None:
    cache = opened(tmp_path / "c")
    one = put(cache, b"one")
    cache.path(one).write_bytes(b"evil")
    with pytest.raises(DamagedError) as caught:
        make_folder(tmp_path / "task", [InputFile("x", one)], cache.path, None)
    assert caught.value.digest == one
    cache.path(one).unlink()
    cache.path(one).symlink_to("/etc/passwd")
    with pytest.raises(OSError):
        make_folder(tmp_path / "task2", [InputFile("x", one)], cache.path, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_inputs_belong_to_the_user_of_the_task(tmp_path: Path) -> None:
    cache = opened(tmp_path / "c")
    folder = tmp_path / "task"
    make_folder(folder, [InputFile("a/b", put(cache, b"x"))], cache.path, 12345)
    assert {path.stat().st_uid for path in (folder, *folder.rglob("*"))} == {12345}
    found = collect(tmp_path, "**")
    assert [each.name for each in found.outputs] == ["a/b"]
    taken = (tmp_path / "out" / digest(b"x")).stat()
    assert (taken.st_uid, stat.S_IMODE(taken.st_mode)) == (0, 0o600)


# -- outputs


def collect(tmp_path: Path, *patterns: str, max_bytes: int = GIB) -> Collected:
    (tmp_path / "out").mkdir(exist_ok=True)
    collector = Collector(tmp_path / "task", tmp_path / "out", max_bytes, private=frozenset({".retire-progress"}))
    return collector.collect(patterns)


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "task"
    folder.mkdir()
    return folder


def test_what_fits_is_taken(tmp_path: Path, task: Path) -> None:
    for name in ("a.png", "b.txt", "out/c", "out/d/e", ".retire-progress", ".hidden"):
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text(name)
    (task / "empty").touch()
    found = collect(tmp_path, "*.png", "out/**", "empty", ".*")
    taken = {each.name: each for each in found.outputs}
    assert set(taken) == {"a.png", "out/c", "out/d/e", "empty", ".hidden"} and not found.skipped
    for name, each in taken.items():
        content = (tmp_path / "out" / each.sha256).read_bytes()
        assert (digest(content), len(content)) == (each.sha256, each.size_bytes)
        assert content == (b"" if name == "empty" else name.encode())
    assert (task / "b.txt").exists()


def test_links_and_special_files_are_left_and_said(tmp_path: Path, task: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not the task's")
    (task / "link").symlink_to(secret)
    (task / "dangling").symlink_to("nowhere")
    (task / "folder").symlink_to(tmp_path)
    os.link(secret, task / "hard")
    os.mkfifo(task / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(task / "socket"))
    (task / "new\nline").write_text("x")
    (task / "bad\udcff").write_text("x")
    (task / "nul").write_text("x")
    (task / "fine").write_text("x")
    found = collect(tmp_path, "**")
    assert [each.name for each in found.outputs] == ["fine"]
    said = dict(each.rsplit(": ", 1) for each in found.skipped)
    assert said == {
        "link": "it is a link",
        "dangling": "it is a link",
        "folder": "it is a link",
        "hard": "it has a hard link that is not one of the outputs",
        "fifo": "it is a pipe",
        "socket": "it is a socket",
        "'new\\nline'": "such a name is not kept",
        "'bad\\udcff'": "such a name is not kept",
        "'nul'": "such a name is not kept",
    }
    assert secret.read_text() == "not the task's"
    assert not list((tmp_path / "out").glob("*.new"))


def test_hard_links_among_the_outputs_are_fine(tmp_path: Path, task: Path) -> None:
    (task / "a").write_text("same")
    os.link(task / "a", task / "b")
    found = collect(tmp_path, "a", "b")
    assert [each.name for each in found.outputs] == ["a", "b"]
    assert (tmp_path / "out" / digest(b"same")).read_bytes() == b"same"
    (task / "c").write_text("half")
    os.link(task / "c", task / "unwanted")
    assert collect(tmp_path, "c").outputs == []


def test_quotas(tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (task / "a").write_bytes(b"x" * 600)
    (task / "b").write_bytes(b"y" * 600)
    with pytest.raises(OverQuotaError, match=r"1\.17 KiB.*max_output_files_bytes.*1 KiB"):
        collect(tmp_path, "*", max_bytes=1024)
    assert list((tmp_path / "out").iterdir()) == []
    assert len(collect(tmp_path, "a", max_bytes=1024).outputs) == 1
    monkeypatch.setattr(staging, "MAX_OUTPUTS", 5)
    for number in range(6):
        (task / f"n{number}").touch()
    with pytest.raises(OverQuotaError, match="6 files fit"):
        collect(tmp_path, "n*")
    monkeypatch.setattr(staging, "MAX_ENTRIES", 5)
    with pytest.raises(OverQuotaError, match="more than 5 entries"):
        collect(tmp_path, "n1")


def test_a_sparse_file_counts_by_its_length(tmp_path: Path, task: Path) -> None:
    with (task / "huge").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(OverQuotaError, match="have 1 TiB"):
        collect(tmp_path, "*")


def test_folders_nested_deeper_than_anybody_looks(tmp_path: Path, task: Path) -> None:
    at = os.open(task, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("deep", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.close(at)
    (task / "shallow").touch()
    assert [each.name for each in collect(tmp_path, "**").outputs] == ["shallow"]
    remove_folder(task)
    assert not task.exists()


def test_locked_folders_go_as_well(tmp_path: Path, task: Path) -> None:
    (task / "a/b").mkdir(parents=True)
    (task / "a/b/c").touch()
    for name in ("a/b/c", "a/b", "a", "."):
        os.chmod(task / name, 0)
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    remove_folder(task)
    assert not task.exists() and stat.S_IMODE(tmp_path.stat().st_mode) == before


@given(st.text(max_size=3), st.integers(0, 2_000_000), st.integers(0, 400))
@settings(max_examples=30)
def test_a_result_fits_its_line(char: str, length: int, files: int) -> None:
    data: dict[str, Any] = {"task_id": "t", "status": "completed", "result": {"output": (char * length)[:999_000]}}
    data["artifacts"] = [{"name": f"{n}/" + "x" * 300, "sha256": "0" * 64, "size_bytes": n} for n in range(files)]
    data["result"]["skipped_files"] = ["y" * 1000] * 100
    before = data["result"]["output"]
    made = fitting(data)
    assert len(encode_line(made)) < MAX_LINE_BYTES
    assert before.endswith(made["result"]["output"]) and len(made["artifacts"]) == files
    assert made["result"].get("truncated", False) == (made["result"]["output"] != before)


def test_the_cap_of_a_cache_is_sane() -> None:
    assert KEPT_FREE_BYTES >= 64 * MIB
