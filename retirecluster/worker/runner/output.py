"""What a task prints: decoded chunks while it runs, and a bounded tail for the result."""

from __future__ import annotations

import codecs

from retirecluster.worker.runner.limits import CHUNK_BYTES, STDERR_TAIL_BYTES, STDOUT_TAIL_BYTES

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Say = Callable[[dict[str, Any]], None]

TAIL_BYTES = {"stdout": STDOUT_TAIL_BYTES, "stderr": STDERR_TAIL_BYTES}
"""How much of the end of each stream is kept."""
_Decoder = codecs.getincrementaldecoder("utf-8")


def decode_tail(data: bytes, cut: bool) -> str:
    """`data` as text. With `cut` its beginning is missing: the rest of a character that was cut goes too."""
    if cut:
        start = 0
        while start < min(3, len(data)) and data[start] & 0xC0 == 0x80:
            start += 1
        data = data[start:]
    return data.decode("utf-8", "replace")


class Stream:
    """One output stream. `limit_bytes` is how much of its end is kept."""

    __slots__ = ("_decoder", "_limit", "_pending", "_tail", "cut", "name", "waiting_since")

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.name = name
        self.cut = False
        self.waiting_since: float | None = None
        self._limit = limit_bytes
        self._decoder: codecs.IncrementalDecoder | None = None  # most tasks print nothing
        self._pending: bytes | bytearray = b""
        self._tail: bytes | bytearray = b""

    def feed(self, data: bytes, now: float, streaming: bool) -> None:
        """Take what was read. Only the tail gets it when the attempt streams no more."""
        if self._decoder is None:
            self._decoder = _Decoder("replace")
            self._pending, self._tail = bytearray(), bytearray()
        self._tail += data
        # Trimmed at twice the limit only, so that the cost per byte is constant.
        if len(self._tail) > 2 * self._limit:
            self._trim()
        if streaming:
            self._pending += data
            if self.waiting_since is None:
                self.waiting_since = now

    def _trim(self) -> None:
        excess = len(self._tail) - self._limit
        if excess > 0:
            self._tail = self._tail[excess:]
            self.cut = True

    @property
    def full(self) -> bool:
        """True when a whole chunk waits."""
        return len(self._pending) >= CHUNK_BYTES

    def take_chunks(self, final: bool = False) -> list[str]:
        """Everything that waits, as chunks. A character whose end has not come yet waits, unless `final`."""
        if self._decoder is None:
            return []
        pending, self._pending = bytes(self._pending), bytearray()
        self.waiting_since = None
        chunks = []
        for start in range(0, len(pending), CHUNK_BYTES):
            chunks.append(self._decoder.decode(pending[start : start + CHUNK_BYTES]))
        if final:
            chunks.append(self._decoder.decode(b"", True))
        return [chunk for chunk in chunks if chunk]

    def tail(self) -> str:
        """The end of everything that was fed."""
        if not self._tail:
            return ""
        self._trim()
        return decode_tail(bytes(self._tail), self.cut)


def send_chunks(stream: Stream, number: int, seq: int, say: Say, final: bool = False) -> int:
    """Say everything that waits in the stream, numbered on from `seq`; the number of the chunk that comes next."""
    for chunk in stream.take_chunks(final):
        say({"e": "output", "n": number, "stream": stream.name, "seq": seq, "data": chunk})
        seq += 1
    return seq


def complete_report(report: dict[str, Any], streams: Mapping[str, Stream], timed_out: bool, cancelled: bool) -> None:
    """Put into a report why the attempt was ended, if it was, and the end of what it printed.

    What the task believes of a limit goes: what is told is what was found out.
    """
    report.pop("limit", None)
    for name, said in (("timed_out", timed_out), ("cancelled", cancelled)):
        if said:
            report[name] = True
    for stream in streams.values():
        if text := stream.tail():
            report[stream.name] = text
    if any(stream.cut for stream in streams.values()):
        report["truncated"] = True
