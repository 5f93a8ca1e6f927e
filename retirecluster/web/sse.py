"""Server-sent events on one connection: back-pressure, a bounded buffer, and an end for slow readers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from retirecluster.web.answers import Answer

if TYPE_CHECKING:
    from retirecluster.web.connections import WebRequest

MEDIA_TYPE = "text/event-stream"
RETRY_MS = 3000
MAX_WAITING_BYTES = 4 * 1024 * 1024
"""What may wait in memory for one reader beyond what its socket has taken."""
GOODBYE_S = 15.0
"""How long a slow reader has to take what it was sent before its connection is dropped."""
PRELUDE = b"retry: %d\n" % RETRY_MS
COMMENT = b": still here\n\n"


def formatted(name: str, data: str, event_id: str | None = None) -> bytes:
    """One event. `data` is JSON on one line."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    return f"{head}event: {name}\ndata: {data}\n\n".encode()


class Stream(Protocol):
    """An answer that goes on: `run` returns when it has ended, and cleans up when it is cancelled."""

    async def run(self, request: WebRequest) -> None:
        """Write to the request until the end."""


@implementer(IPushProducer)
@define(eq=False)
class Reader:
    """Who reads a stream. `send` never blocks: what the socket does not take waits, up to a limit."""

    request: WebRequest
    seconds: Callable[[], float]
    ended: Deferred[None] = field(factory=Deferred)
    dropped: bool = False
    paused_at: float | None = None
    _closed: bool = False
    _waiting: deque[bytes] = field(factory=deque)
    _waiting_bytes: int = 0
    _drained: Deferred[None] | None = None

    def open(self, event_id: str | None) -> None:
        """Send the head of the stream: how to reconnect, and from where."""
        headers = ((b"Cache-Control", b"no-store"), (b"X-Accel-Buffering", b"no"))
        request = self.request
        request.prepare(Answer(200, b"", MEDIA_TYPE, headers))
        request.responseHeaders.removeHeader(b"Content-Length")
        request.registerProducer(self, True)
        request.write(PRELUDE + (f"id: {event_id}\n\n" if event_id is not None else "\n").encode())

    def send(self, data: bytes) -> None:
        """Write, or keep for later; too much kept ends the stream with the event `dropped`."""
        if self._closed:
            return
        if self.paused_at is None:
            self.request.write(data)
        elif self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
            self.drop("the reader is too slow: events were lost; connect again")
        else:
            self._waiting.append(data)
            self._waiting_bytes += len(data)

    def comment(self, patience_s: float) -> None:
        """Show a sign of life; a reader that has taken nothing for `patience_s` is dropped."""
        if self.paused_at is None:
            self.send(COMMENT)
        elif self.seconds() - self.paused_at > patience_s:
            self.drop("the reader has taken nothing for too long; connect again")

    def drop(self, why: str) -> None:
        """Tell the reader that it is too slow, and end."""
        if not self._closed:
            self.dropped = True
            self._waiting.clear()
            self.request.write(formatted("dropped", f'{{"reason":"{why}"}}'))
            self.request.channel.close_within(GOODBYE_S)
            self.close()

    def close(self) -> None:
        """End the stream after what was sent."""
        if not self._closed:
            self._closed = True
            for data in self._waiting:
                self.request.write(data)
            self._waiting.clear()
            self.request.unregisterProducer()
            self.ended.callback(None)
            if self._drained is not None:
                drained, self._drained = self._drained, None
                drained.callback(None)

    def lost(self) -> None:
        """The connection is gone, or the stream has ended: nothing is written any more."""
        if not self._closed:
            self._closed = True
            self._waiting.clear()
            if self.request.channel is not None:
                self.request.unregisterProducer()

    async def drained(self) -> bool:
        """Wait until the socket takes more; False if the stream has ended meanwhile."""
        if self.paused_at is not None and not self._closed:
            if self._drained is None:
                self._drained = Deferred()
            await self._drained
        return not self._closed

    # -- IPushProducer

    def pauseProducing(self) -> None:
        """The socket takes no more for now."""
        if self.paused_at is None:
            self.paused_at = self.seconds()

    def resumeProducing(self) -> None:
        """The socket takes more."""
        self.paused_at = None
        while self._waiting and self.paused_at is None:
            data = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            self.request.write(data)
        if self._drained is not None and self.paused_at is None:
            drained, self._drained = self._drained, None
            drained.callback(None)

    def stopProducing(self) -> None:
        """The connection is gone; the request's own end does the cleaning."""
        self._closed = True
        self._waiting.clear()
