"""Server-sent events as an async iterator that reconnects and resumes.

Nothing happens while nobody asks: `__anext__` gives what has arrived, waits for more, or makes the next
connection. So there is no task to supervise; `close()` ends it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from retirecluster.client.exchange import Exchange, HeaderFields, connection_error, within
from retirecluster.client.problems import TEMPORARY, error_from_response
from retirecluster.client.sse import ServerSentEvent, SseParser
from retirecluster.domain.errors import ClusterError

SILENCE_S = 60.0
"""The main sends a comment each 15 s; a connection this long without a byte is dead."""
RECONNECTS = 6
"""Connections that may fail in a row before the stream gives up with the error."""
DEFAULT_RETRY_S = 1.0
LONGEST_RETRY_S = 15.0
MAX_WAITING = 5000
"""Events held for a slow reader; beyond it the connection is not read, so that the main sees it is slow."""


class EventStream:
    """Events of one /stream address. Iterate over it with `async for`; close() it in the end.

    Raises ClusterError where the main refuses the stream, or cannot be reached at first or several times in a row.
    A clean end by the main is followed by a new connection with `Last-Event-ID`, as the standard says, except for
    the answer 204, which ends the iteration.
    """

    def __init__(self, exchange: Exchange, path: str, params: Mapping[str, str], last_event_id: str = "") -> None:
        self._exchange = exchange
        self._url = f"{exchange.server}/{path}"
        self._params = dict(params)
        self._events: deque[ServerSentEvent] = deque()
        self._parser = SseParser(last_event_id)
        self._body: _Body | None = None
        self._connected_once = False
        self._failures = 0
        self._ended = False

    @property
    def last_event_id(self) -> str:
        """The id to resume after."""
        return self._parser.last_event_id

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> ServerSentEvent:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            if self._body is None:
                await self._connect()
            else:
                await self._read(self._body)
        event = self._events.popleft()
        if self._body is not None and not self._events:
            self._body.resume()
        return event

    async def close(self) -> None:
        """Drop the connection, if there is one, and end the iteration."""
        self._ended = True
        self._events.clear()
        if self._body is not None:
            body, self._body = self._body, None
            await body.close()

    async def connect(self) -> None:
        """Make the connection now, so that nothing sent from here on is missed. Else the first read makes it."""
        if self._body is None:
            await self._connect()

    async def _read(self, body: _Body) -> None:
        try:
            await within(SILENCE_S, self._exchange.reactor, body.more())
        except TimeoutError:
            await body.close()
        if body.ended and not self._events:
            self._body = None
            if body.error is not None:
                raise body.error
            # The next connection goes on after the last whole event; half of one is sent again.
            self._parser = SseParser(self._parser.last_event_id, self._parser.retry_s)

    async def _connect(self) -> None:
        if self._connected_once:
            await self._pause()
        headers: HeaderFields = {**self._exchange.headers, "Accept": "text/event-stream", "Cache-Control": "no-cache"}
        if self._parser.last_event_id:
            headers["Last-Event-ID"] = self._parser.last_event_id
        try:
            self._body = await self._open(headers)
        except ClusterError as error:
            self._failures += 1
            if not self._connected_once or error.code not in TEMPORARY or self._failures >= RECONNECTS:
                raise
        else:
            self._connected_once, self._failures = True, 0

    async def _open(self, headers: HeaderFields) -> _Body | None:
        exchange = self._exchange
        request = exchange.client.request(
            "GET", self._url, params=self._params, headers=headers, unbuffered=True, reactor=exchange.reactor
        )
        try:
            response: Any = await within(exchange.request_timeout_s, exchange.reactor, request)
        except Exception:
            raise connection_error(Failure(), exchange.server) from None
        if response.code == 204:
            self._ended = True
            return None
        if response.code != 200:
            content = await response.content()
            raise error_from_response(response.code, content, exchange.server, "Authorization" in exchange.headers)
        body = _Body(self._parser, self._events)
        response.deliverBody(body)
        return body

    async def _pause(self) -> None:
        base_s = DEFAULT_RETRY_S if self._parser.retry_s is None else self._parser.retry_s
        pause_s = min(base_s * 2**self._failures, LONGEST_RETRY_S)
        # Spread out, so that many clients of a restarted main do not all come in the same instant.
        await deferLater(self._exchange.reactor, pause_s * random.uniform(0.5, 1.0))


class _Body(Protocol):
    """Reads the body of one connection into `events`."""

    def __init__(self, parser: SseParser, events: deque[ServerSentEvent]) -> None:
        self._parser = parser
        self._events = events
        self._waiter: Deferred[None] | None = None
        self._closed: Deferred[None] = Deferred()
        self._paused = False
        self.ended = False
        self.error: ClusterError | None = None

    def more(self) -> Deferred[None]:
        """Fires when there is something new: events, or the end."""
        if self.ended or self._events:
            done: Deferred[None] = Deferred()
            done.callback(None)
            return done
        self._waiter = Deferred(lambda _: setattr(self, "_waiter", None))
        return self._waiter

    def dataReceived(self, data: bytes) -> None:
        try:
            self._events.extend(self._parser.feed(data))
        except ClusterError as error:
            self.error = error
            self._producer().stopProducing()
        if len(self._events) > MAX_WAITING and not self._paused:
            self._paused = True
            self._producer().pauseProducing()
        self._wake()

    def resume(self) -> None:
        """Read on, after the reader has caught up."""
        if self._paused and not self.ended:
            self._paused = False
            self._producer().resumeProducing()

    async def close(self) -> None:
        """Drop the connection; returns when it is gone."""
        if not self.ended:
            self._producer().stopProducing()
            await self._closed

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True
        self._wake()
        self._closed.callback(None)

    def _producer(self) -> IPushProducer:
        producer: Any = self.transport
        return producer

    def _wake(self) -> None:
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            waiter.callback(None)
