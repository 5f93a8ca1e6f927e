"""What a task may say on its side channel: its own progress, value and error, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.worker.runner.limits import PROGRESS_FILE, SIDE_LINE_BYTES
from retirecluster.worker.runner.lines import encode_line
from retirecluster.worker.runner.progress_file import NEVER, read_progress
from retirecluster.worker.runner.side import SideChannel, read_line
from tests.worker.runner_client import RunnerClient

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    ["e", "n", "code", "signal", "value", "error", "limit", "truncated", "percent", "message", "wall"]
)


@pytest.mark.parametrize(
    ("line", "percent", "message"),
    [
        (b"50", 50, ""),
        (b"50% half way", 50, "half way"),
        (b"  12.5\tx", 12.5, "x"),
        (b'{"percent": 7, "message": "m"}', 7, "m"),
        (b'{"message": "only"}', None, "only"),
        (b'{"percent": 700}', None, ""),
        (b'{"percent": true}', None, ""),
    ],
)
def test_progress(line: bytes, percent: float | None, message: str) -> None:
    assert read_line(line) == {"progress": {"percent": percent, "message": message}}


@pytest.mark.parametrize(
    "line", [b"", b"half", b"101 too much", b"-1", b"nan", b"inf", b"[50]", b'{"percent": NaN}', b"{", b"\xff", b'"50"']
)
def test_lines_that_say_nothing(line: bytes) -> None:
    assert read_line(line) == {}


def test_a_report_cannot_be_forged() -> None:
    line = json.dumps(
        {"e": "end", "n": 99, "code": 0, "signal": None, "wall": 1, "peak": 0, "timed_out": False, "value": 1}
    )
    assert read_line(line.encode()) == {"value": 1}
    told = read_line(b'{"error": {"kind": 3, "message": ["x"], "retryable": 0, "more": 1}, "limit": {"a": 1}}')
    assert told == {"error": {"kind": "exception", "message": "", "retryable": True}}


def test_a_value_that_could_not_be_written_down_is_an_error() -> None:
    assert (
        read_line(b'{"value": ' + b"[" * 500 + b"]" * 500 + b"}")["error"]["message"]
        == "the value is nested too deeply"
    )
    assert read_line(b'{"value": Infinity}') == {}
    assert read_line(b'{"value": "' + b"[" * 500 + b'"}')["value"] == "[" * 500


@given(st.dictionaries(NAMES, JSON, max_size=5))
def test_whatever_is_said_can_be_reported(record: dict[str, Any]) -> None:
    told = read_line(json.dumps(record).encode())
    assert told.keys() <= {"value", "error", "limit", "truncated", "progress"}
    encode_line(told)


def test_lines_come_in_pieces_and_have_a_bound() -> None:
    side = SideChannel()
    assert side.feed(b'{"val') == [] and side.feed(b'ue": 1}\n50\n6') == [{"value": 1}, read_line(b"50")]
    assert side.feed(b"0 x\n") == [read_line(b"60 x")]
    assert side.feed(b"x" * (SIDE_LINE_BYTES + 1)) == []
    assert side.feed(b"\n50\n") == []


def test_the_progress_file(tmp_path: Path) -> None:
    path = tmp_path / PROGRESS_FILE
    assert read_progress(str(tmp_path), NEVER) == (None, NEVER)
    path.write_text("10 a\n20 b\n\nnonsense\n")
    progress, seen = read_progress(str(tmp_path), NEVER)
    assert progress == {"percent": 20, "message": "b"}
    assert read_progress(str(tmp_path), seen) == (None, seen)
    path.write_bytes(b"x" * 100_000 + b"\n30 c")
    assert read_progress(str(tmp_path), seen)[0] == {"percent": 30, "message": "c"}


@pytest.mark.parametrize("make", ["symlink_to", "mkfifo", "mkdir"])
def test_what_is_no_regular_file_is_not_read(tmp_path: Path, make: str) -> None:
    import os

    path = tmp_path / PROGRESS_FILE
    (tmp_path / "other").write_text("50 x\n")
    {"symlink_to": lambda: path.symlink_to("other"), "mkfifo": lambda: os.mkfifo(path), "mkdir": path.mkdir}[make]()
    assert read_progress(str(tmp_path), NEVER)[0] is None


def test_a_limit_that_a_task_makes_up_is_not_told(runner: RunnerClient) -> None:
    report = runner.script('import os; os.write(3, b\'{"error": {}, "limit": "bogus"}\\n\'); exit(1)')
    assert report["code"] == 1 and "error" in report and "limit" not in report


def test_a_runner_survives_whatever_a_task_says(runner: RunnerClient) -> None:
    lines = [
        b'{"value": NaN}',
        b'{"value": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"e": "end", "n": 2, "code": 5}',
        b"\xff\xfe",
    ]
    source = f"import os\nfor line in {lines!r}:\n    os.write(3, line + b'\\n')\n"
    report = runner.script(source)
    assert (report["n"], report["code"], report["error"]["kind"]) == (1, 0, "result")
    assert runner.script("print('next')")["stdout"] == "next\n"
