"""The demo's work: counted as collections.Counter would, cut so that it fits tasks, merged in any order."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.client import demo_input
from retirecluster.client.demo import demands_for, demo_profiles
from retirecluster.client.demo_input import Part, read_input, script_source, task_document
from retirecluster.client.demo_work import merge
from retirecluster.client.word_index import index_texts
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.tasks import spec_from_document

texts = st.lists(st.text("ab éÜ日'_1.\n", max_size=60) | st.text(st.characters(exclude_categories=["Cs"])), max_size=5)


def documents(contents: list[str]) -> list[dict[str, Any]]:
    return [{"name": f"{number}.txt", "piece": 0, "text": text} for number, text in enumerate(contents)]


@given(texts)
def test_words_are_counted_as_a_counter_counts_them(contents: list[str]) -> None:
    expected: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for text in contents:
        words = re.findall(r"[^\W\d_]+", text.lower())
        expected.update(words)
        within.update(set(words))
    found = index_texts(documents(contents))
    assert {word: times for word, (times, _) in found["index"].items()} == expected
    assert {word: number for word, (_, number) in found["index"].items()} == within
    for described, text in zip(found["texts"], contents, strict=True):
        assert described["sha256"] == hashlib.sha256(text.encode()).hexdigest()


@given(texts, st.integers(0, 5), st.randoms())
def test_parts_merge_to_the_whole_in_any_order(contents: list[str], cut: int, random: Any) -> None:
    whole = merge([index_texts(documents(contents))])
    parts = [index_texts(documents(contents)[:cut]), index_texts(documents(contents)[cut:])]
    random.shuffle(parts)
    assert merge(parts).digest == whole.digest


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\n \x01😀"), max_size=400))
def test_pieces_are_the_text_and_each_fits(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_input, "PART_BYTES", 200)
        patch.setattr(demo_input, "PART_CHARS", 1500)
        pieces = list(demo_input._pieces(text))
        assert "".join(pieces) == text
        assert all(len(piece.encode()) <= 200 and len(json.dumps(json.dumps(piece))) <= 1500 for piece in pieces)


def test_the_script_gives_the_same_in_a_process_of_its_own() -> None:
    contents = documents(["Hello hello wörld", "日本 hello\n"])
    done = subprocess.run(
        [sys.executable, "-I", "-c", script_source()],
        input=json.dumps({"texts": contents}).encode(),
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout) == index_texts(contents)


def test_the_input_is_the_text_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two")
    (tmp_path / "b.bin").write_bytes(b"\xff\xfe\0")
    (tmp_path / ".hidden").write_text("no")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.md").write_text("three")
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    found = read_input(str(tmp_path))
    assert [piece.name for part in found.parts for piece in part.pieces] == ["a.txt", "sub/c.md"]
    assert (found.files, found.left_out, found.capped, found.size_bytes) == (2, 1, False, 12)


def test_a_folder_without_text_is_an_error(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ClusterError) as caught:
            read_input(str(folder))
        assert caught.value.code == "not_found"


def test_input_is_capped_and_parts_make_tasks_that_the_main_accepts() -> None:
    found = read_input(None, limit_bytes=1_000_000)
    assert found.capped and found.size_bytes <= 1_000_000
    demands = demands_for(len(found.parts), demo_profiles(3))
    for number, part in enumerate(found.parts):
        assert part.size_bytes <= demo_input.PART_BYTES
        spec_from_document(task_document(part, number, script_source(), demands[number], "job"))


def test_the_hardest_text_still_fits_a_task(tmp_path: Path) -> None:
    (tmp_path / "hard.txt").write_text("\x01" * 300_000 + "😀" * 100_000)
    for number, part in enumerate(read_input(str(tmp_path)).parts):
        spec_from_document(task_document(part, number, script_source(), {}, "job"))


def test_demands_ask_only_for_roles_that_are_there() -> None:
    assert not any(demands_for(40, demo_profiles(1)))
    roles = {each.get("role") for each in demands_for(40, demo_profiles(3))}
    assert roles == {None, "mobile", "nas"}
    assert len(demo_profiles(5)) == 5 and len({each.device_id for each in demo_profiles(5)}) == 5


def test_an_empty_part_takes_whatever_comes() -> None:
    assert Part().has_room_for(demo_input.Piece("a", 0, "x", 10**9, 10**9))
