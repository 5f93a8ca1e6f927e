"""The output decoder and the caps: whatever a task prints, text comes out whole and within its bounds."""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from retirecluster.wire.codec import MAX_LINE_BYTES, decode
from retirecluster.worker.assignment import Assignment
from retirecluster.worker.outcome import result_data
from retirecluster.worker.runner import limits
from retirecluster.worker.runner.output import Stream, decode_tail


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


@given(st.text(), st.lists(st.integers(0, 10_000)), st.lists(st.booleans()))
def test_text_is_the_same_however_it_is_cut(text: str, cuts: list[int], flushes: list[bool]) -> None:
    stream = Stream("stdout", 1 << 20)
    chunks: list[str] = []
    for index, piece in enumerate(pieces(text.encode("utf-8", "replace"), cuts)):
        stream.feed(piece, 0.0, True)
        if index < len(flushes) and flushes[index]:
            chunks += stream.take_chunks()
    chunks += stream.take_chunks(final=True)
    assert "".join(chunks) == stream.tail() == text.encode("utf-8", "replace").decode()
    assert all(chunks)


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000)))
def test_any_bytes_decode_as_a_whole_would(data: bytes, cuts: list[int]) -> None:
    stream = Stream("stdout", 1 << 20)
    for piece in pieces(data, cuts):
        stream.feed(piece, 0.0, True)
    assert "".join(stream.take_chunks(final=True)) == data.decode("utf-8", "replace")


@given(st.text(alphabet="aü€😀", max_size=400), st.integers(1, 64))
def test_a_tail_is_the_end_of_the_text_and_never_begins_within_a_character(text: str, limit: int) -> None:
    stream = Stream("stdout", limit)
    for character in text:
        stream.feed(character.encode(), 0.0, False)
    tail = stream.tail()
    assert text.endswith(tail)
    assert len(tail.encode()) <= limit
    assert stream.cut == (len(text.encode()) > limit)
    assert len(text.encode()) <= limit or len(tail.encode()) > limit - 4


def test_a_cut_tail_loses_only_the_rest_of_its_first_character() -> None:
    assert decode_tail("€uro".encode()[1:], cut=True) == "uro"
    assert decode_tail(b"\x80\x80\x80\x80", cut=False) == "\ufffd" * 4


def test_memory_of_a_stream_is_bounded() -> None:
    stream = Stream("stdout", 1000)
    for _ in range(100):
        stream.feed(b"x" * 1000, 0.0, False)
        assert len(stream._tail) <= 2000


@given(st.sampled_from([b"\x00", b"\x1b", b"\xff", b'"', "😀".encode(), "é".encode(), b"a"]))
def test_the_longest_result_fits_one_line(unit: bytes) -> None:
    streams = Stream("stdout", limits.STDOUT_TAIL_BYTES), Stream("stderr", limits.STDERR_TAIL_BYTES)
    for stream in streams:
        stream.feed(unit * (1 << 20), 0.0, False)
    report = {
        "e": "end",
        "code": 1,
        "stdout": streams[0].tail(),
        "stderr": streams[1].tail(),
        "truncated": True,
        "error": {"kind": "exception", "message": unit.decode("utf-8", "replace") * limits.ERROR_CHARS},
    }
    data = result_data(Assignment("t" * 64, 2**62, "python_script", {}), report)
    line = json.dumps({"message_type": "task_result", "sender_id": "d" * 128, "timestamp": "x" * 64, "data": data})
    assert len(line) < MAX_LINE_BYTES
    assert decode(line.encode())["data"]["result"]["truncated"] is True


@given(st.sampled_from(["\x00", "😀", "a"]))
def test_the_longest_value_and_standard_error_fit_one_line_together(unit: str) -> None:
    size = len(json.dumps(unit)) - 2
    value = {"text": unit * ((limits.VALUE_BYTES - 20) // size)}
    report = {"e": "end", "code": 0, "value": value, "stderr": "\x00" * limits.STDERR_TAIL_BYTES}
    data = result_data(Assignment("t", 1, "mine", {}), report)
    assert data["result"]["output"] == value
    assert len(json.dumps(data)) < MAX_LINE_BYTES - 1000
