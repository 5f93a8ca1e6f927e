"""Server-sent events, without any network: bytes in, events out.

Follows the event stream format of the HTML standard (section 9.2.6): lines end with CR, LF or CRLF, a line
that starts with a colon is a comment, an empty line ends an event.
"""

from __future__ import annotations

import codecs
import re

from attrs import define, field, frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.units import MIB, format_bytes

MAX_EVENT_CHARS = 16 * MIB
"""An event longer than this is a mistake or an attack; nothing here has events of more than about 1 MiB."""

_LINE_END = re.compile(r"\r\n|\r|\n")


@frozen
class ServerSentEvent:
    """One event. `event` is its name (`message` where none was given), `last_event_id` what to resume after."""

    event: str
    data: str
    last_event_id: str = ""


@define
class SseParser:
    """Feed it what the connection delivers, cut anywhere; it gives the events that are complete.

    `last_event_id` and `retry_s` (seconds to wait before a reconnect, None if the server named none) are what
    the stream has said so far. Pass the old `last_event_id` to the parser of a resumed connection.
    """

    last_event_id: str = ""
    retry_s: float | None = None
    _decoder: codecs.IncrementalDecoder = field(
        factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace"), init=False
    )
    _at_start: bool = field(default=True, init=False)
    _after_cr: bool = field(default=False, init=False)
    _partial: list[str] = field(factory=list, init=False)
    _event: str = field(default="", init=False)
    _id: str = field(default="", init=False)
    _data: list[str] = field(factory=list, init=False)
    _held_chars: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._id = self.last_event_id

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that `data` completes. Raises ClusterError (`too_large`) on an endless one."""
        text = self._without_marks(self._decoder.decode(data))
        if not text:
            return []
        pieces = _LINE_END.split(text)
        self._after_cr = text.endswith("\r")
        self._partial.append(pieces[0])
        self._held_chars += len(text)
        events = []
        for piece in pieces[1:]:
            event = self._line("".join(self._partial))
            self._partial = [piece]
            if event is not None:
                events.append(event)
        if self._held_chars > MAX_EVENT_CHARS:
            raise ClusterError("too_large", f"an event of the stream is longer than {format_bytes(MAX_EVENT_CHARS)}")
        return events

    def _without_marks(self, text: str) -> str:
        """Drop a byte order mark at the start, and the LF of a CRLF that was cut in two."""
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:
            self._after_cr = False
            text = text.removeprefix("\n")
        return text

    def _line(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_s = int(value[:9]) / 1000
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        self.last_event_id = self._id
        event, data = self._event or "message", self._data
        self._event, self._data, self._held_chars = "", [], 0
        return ServerSentEvent(event, "\n".join(data), self.last_event_id) if data else None
