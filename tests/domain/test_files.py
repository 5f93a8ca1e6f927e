"""Names, digests and patterns of tasks' files."""

from __future__ import annotations

import ntpath
import os
import time
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.files import artifact_problems, file_problems, folders_of, is_file_name, matcher
from retirecluster.domain.tasks import spec_from_document

DIGEST = "ab" * 32
NASTY = [
    "../x", "a/../b", "..", ".", "./a", "a/.", "/etc/passwd", "//x", "a//b", "a/", "", "C:/x", "C:x", "a\\b",
    "\\\\host\\share", "a:stream", "con", "NUL.txt", "dir/COM1", "lpt9.tar.gz", "Aux ", "a.", "a ", "b/c./d", "x\x00y",
    "x\ny", "x\x1b[31m", "a\u202eb", "a\u200bb", "\ud800", "x" * 256, "é" * 128, "d/" * 512 + "x", "a*b", "a?b", 'a"b',
    "a<b", "a|b", "a\x7fb",
]  # fmt: skip


@pytest.mark.parametrize("name", NASTY)
def test_what_is_no_name(name: str) -> None:
    assert not is_file_name(name)
    files = {"inputs": [{"name": name, "sha256": DIGEST}]}
    with pytest.raises(ClusterError) as caught:
        spec_from_document({"task_type": "echo", "files": files})
    assert caught.value.field.startswith("files.inputs[0].name")
    assert artifact_problems([{"name": name, "sha256": DIGEST, "size_bytes": 1}])


@pytest.mark.parametrize("name", [None, 5, ["a"], {"name": "a"}, b"a"])
def test_what_is_not_even_text(name: object) -> None:
    assert not is_file_name(name)


@pytest.mark.parametrize(
    "name", ["a", ".hidden", "a/b/c.txt", "ß ü/漢字.png", "a'b", "...a", "console", "com10", "x" * 255]
)
def test_what_is_a_name(name: str) -> None:
    assert is_file_name(name)
    assert spec_from_document({"task_type": "echo", "files": {"inputs": [{"name": name, "sha256": DIGEST}]}}).inputs


@given(
    st.text(max_size=40)
    | st.lists(st.sampled_from(["..", ".", "a", "", "/", "\\", "C:", "nul"]), max_size=6).map("/".join)
)
def test_a_name_never_leads_out_of_its_folder(name: str) -> None:
    if not is_file_name(name):
        return
    joined = os.path.normpath(os.path.join("/scratch/1", name))
    assert joined == f"/scratch/1/{name}"
    for path in (PurePosixPath(name), PureWindowsPath(name)):
        assert not path.is_absolute() and not path.drive and ".." not in path.parts
    if hasattr(ntpath, "isreserved"):  # from Python 3.13 on
        assert not ntpath.isreserved(name)
    else:
        assert not PureWindowsPath(name).is_reserved()
    assert all(is_file_name(folder) for folder in folders_of(name))


def test_names_in_each_others_way() -> None:
    def problems(*names: str) -> str:
        return "; ".join(map(str, file_problems({"inputs": [{"name": n, "sha256": DIGEST} for n in names]}, "files")))

    assert not problems("a", "b/a", "b/c")
    assert "twice" in problems("a", "a")
    assert "same" in problems("Readme", "README")
    assert "same" in problems("é", "e\u0301")
    assert "file and a folder" in problems("a", "a/b")
    assert "file and a folder" in problems("A/b/c", "a/B")


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*.png", ["a.png", ".png", ".a.png"], ["a/b.png", "a.pn", "a.png/x"]),
        ("out/**", ["out/a", "out/a/b", "out/.x"], ["out", "other/a"]),
        ("**/x", ["x", "a/x", "a/b/x"], ["a/x/b", "ax"]),
        ("a/**/b", ["a/b", "a/c/b", "a/c/d/b"], ["a", "b", "a/c", "x/a/b"]),
        ("**", ["a", "a/b"], []),
        ("**/**", ["a", "a/b"], []),
        ("**/a/**/b", ["a/b", "x/a/y/a/b", "a/a/b"], ["a", "b/a"]),
        ("part-[0-9]?.txt", ["part-1x.txt"], ["part-x1.txt", "part-1.txt"]),
        ("[!a]", ["b"], ["a", "bb"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
        ("a", ["a"], ["A", "b", "a/b"]),
    ],
)
def test_patterns(pattern: str, fitting: list[str], others: list[str]) -> None:
    fits = matcher([pattern])
    assert [name for name in fitting if not fits(name)] == []
    assert [name for name in others if fits(name)] == []


parts = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=5)


@given(parts, st.data())
def test_a_name_fits_itself_and_itself_with_stars(name: list[str], data: st.DataObject) -> None:
    pattern = [data.draw(st.sampled_from([part, "*", part[0] + "*", "?" * len(part)])) for part in name]
    start = data.draw(st.integers(0, len(name)))
    end = data.draw(st.integers(start, len(name)))
    assert matcher(["/".join(name)])("/".join(name))
    assert matcher(["/".join(pattern)])("/".join(name))
    if end < len(name):
        assert matcher(["/".join([*pattern[:start], "**", *pattern[end:]])])("/".join(name))


@given(parts, parts.map(lambda name: "/".join(name)))
def test_a_pattern_without_stars_fits_one_name(name: list[str], other: str) -> None:
    assert matcher(["/".join(name)])(other) == ("/".join(name) == other)


def test_no_pattern_takes_for_ever() -> None:
    began = time.process_time()
    assert not matcher(["*a" * 500])("a" * 254 + "b")
    assert not matcher(["/".join(["**", "*a"] * 150)])("/".join(["aaa"] * 250) + "/b")
    # Not a timed test: the wrong algorithm would take longer than the universe.
    assert time.process_time() - began < 60


def test_artifacts() -> None:
    good = {"name": "a/b", "sha256": DIGEST, "size_bytes": 3}
    assert not artifact_problems([good, good | {"name": "c"}])
    for wrong in (good | {"sha256": "x"}, good | {"size_bytes": -1}, good | {"size_bytes": True}, {"name": "a"}, 5):
        assert artifact_problems([wrong])
    assert "twice" in str(artifact_problems([good, good])[0])
