"""Framing: any chunking gives the same lines, and nothing follows a line that is too long."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport

from retirecluster.wire.lines import JsonLines


class Collector(JsonLines):
    max_line_bytes = 20

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[bytes] = []
        self.overlong = 0

    def line_received(self, line: bytes) -> None:
        self.lines.append(line)

    def line_too_long(self) -> None:
        self.overlong += 1


def collector() -> Collector:
    made = Collector()
    made.makeConnection(StringTransport())
    return made


def expected(data: bytes) -> tuple[list[bytes], bool]:
    lines: list[bytes] = []
    whole = data.split(b"\n")
    for index, line in enumerate(whole):
        last = index == len(whole) - 1
        bare = line[:-1] if line.endswith(b"\r") and not last else line
        if len(bare) > (21 if last else 20):
            return lines, True
        if not last and bare.strip():
            lines.append(bare)
    return lines, False


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b"{}", b"x" * 9, b"y" * 20, b"z" * 21, b" "])), st.data())
def test_any_chunking_gives_the_same_lines(pieces: list[bytes], data: Any) -> None:
    whole = b"".join(pieces)
    made = collector()
    position = 0
    while position < len(whole):
        size = data.draw(st.integers(1, 30))
        made.dataReceived(whole[position : position + size])
        position += size
    lines, overlong = expected(whole)
    assert made.lines == lines
    assert made.overlong == int(overlong)
    assert made.dead == overlong


def test_nothing_is_delivered_after_an_overlong_line() -> None:
    made = collector()
    made.dataReceived(b"ok\n" + b"x" * 50 + b"\nnot this\n")
    made.dataReceived(b"nor this\n")
    assert made.lines == [b"ok"] and made.overlong == 1
    assert made.transport.disconnecting


def test_a_line_without_end_is_not_kept() -> None:
    made = collector()
    for _ in range(1000):
        made.dataReceived(b"x" * 10)
    assert made.overlong == 1
    assert sum(map(len, made._tail)) == 0


def test_a_peer_that_does_not_read_is_cut_off() -> None:
    made = collector()
    made.max_unsent_bytes = 1000
    made.pauseProducing()
    for _ in range(200):
        made.send({"n": 1})
    assert made.dead
    assert len(made.transport.value()) <= 1000


def test_a_peer_that_reads_again_is_forgiven() -> None:
    made = collector()
    made.max_unsent_bytes = 100
    for _ in range(50):
        made.pauseProducing()
        made.send({"n": 1})
        made.resumeProducing()
    assert not made.dead
