"""Files on their way to a client: whole or a range of one, read in a thread, no faster than they are taken."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from retirecluster.domain.errors import ClusterError
from retirecluster.web.answers import Answer, Header, problem

if TYPE_CHECKING:
    from retirecluster.web.connections import WebRequest

MEDIA_TYPE = "application/octet-stream"
READ_BYTES = 256 * 1024
STALL_S = 120.0
"""How long a client may take nothing before its connection is dropped."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


@frozen
class Range:
    """A part of a file: `[start, end)`, in bytes."""

    start: int
    end: int


def wanted_range(text: str | None, size_bytes: int) -> Range | None:
    """The range that a Range header asks for; None for the whole, also where it asks for more than one.

    Raises ValueError for one that lies outside of the file.
    """
    match = _RANGE.fullmatch(text.strip()) if text else None
    if match is None or match[1] == match[2] == "":
        return None
    if not match[1]:
        length = min(int(match[2]), size_bytes)
        if not length:
            raise ValueError("an empty range")
        return Range(size_bytes - length, size_bytes)
    start, last = int(match[1]), int(match[2]) if match[2] else size_bytes - 1
    if start >= size_bytes:
        raise ValueError("beyond the end")
    if last < start:
        return None
    return Range(start, min(last + 1, size_bytes))


def attachment(name: str) -> Header:
    """Content-Disposition for a file of that name: saved, not shown, and under a name that leads nowhere."""
    last = name.rpartition("/")[2]
    plain = "".join(char if char.isascii() and (char.isalnum() or char in " ._-()+") else "_" for char in last)
    full = quote(last, safe="", encoding="utf-8", errors="replace")
    return (b"Content-Disposition", f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}".encode("ascii"))


@frozen
class Download:
    """The answer that is a file. `open` gives a descriptor and the size in bytes, or raises ClusterError."""

    digest: str
    name: str
    open: Callable[[str], Awaitable[tuple[int, int]]]
    in_thread: Callable[..., Awaitable[Any]]
    clock: IReactorTime
    sent: Callable[[int], None]
    """Told how many bytes of the content went out."""

    async def run(self, request: WebRequest) -> None:
        """Send it; returns when the socket has taken all of it."""
        descriptor, size = await self.open(self.digest)
        try:
            await self._answer(request, descriptor, size)
        finally:
            os.close(descriptor)

    async def _answer(self, request: WebRequest, descriptor: int, size: int) -> None:
        etag = f'"{self.digest}"'
        headers = request.requestHeaders
        request.sandboxed = True
        if etag in _values(headers.getRawHeaders("If-None-Match")):
            request.prepare(Answer(304, b"", MEDIA_TYPE, self._headers(etag)))
            return
        ranges = headers.getRawHeaders("Range") or []
        unchanged = (headers.getRawHeaders("If-Range") or [etag])[0] == etag
        asked = ranges[0] if ranges and unchanged else None
        try:
            part = wanted_range(asked, size)
        except ValueError:
            self._refuse(request, size)
            return
        shown = part or Range(0, size)
        request.prepare(Answer(206 if part else 200, b"", MEDIA_TYPE, self._headers(etag)))
        request.responseHeaders.setRawHeaders("Content-Length", [str(shown.end - shown.start)])
        if part:
            request.responseHeaders.setRawHeaders("Content-Range", [f"bytes {part.start}-{part.end - 1}/{size}"])
        if request.method == b"HEAD":
            request.write(b"")
        else:
            await self._send(request, descriptor, shown)

    async def _send(self, request: WebRequest, descriptor: int, part: Range) -> None:
        taker = _Taker(request, self.clock)
        request.registerProducer(taker, True)
        try:
            at = part.start
            while at < part.end and await taker.ready():
                data: bytes = await self.in_thread(os.pread, descriptor, min(READ_BYTES, part.end - at), at)
                if not data or taker.gone:
                    break
                request.write(data)
                self.sent(len(data))
                at += len(data)
            if at < part.end and not taker.gone:  # cut short under us: the length that was promised cannot be kept
                request.channel.transport.abortConnection()
        finally:
            if request.channel is not None:
                request.unregisterProducer()

    def _headers(self, etag: str) -> tuple[Header, ...]:
        return (
            (b"ETag", etag.encode("ascii")),
            (b"Accept-Ranges", b"bytes"),
            (b"Cache-Control", b"private, no-cache"),
            (b"Upload-Complete", b"?1"),
            attachment(self.name),
        )

    def _refuse(self, request: WebRequest, size: int) -> None:
        error = ClusterError("bad_field", f"the range is not within the file's {size} bytes", field="Range")
        answer = problem(error, request.request_id, status=416)
        request.prepare(answer.with_headers((b"Content-Range", f"bytes */{size}".encode("ascii"))))
        request.write(answer.body)


def _values(headers: Any) -> list[str]:
    return [each.strip() for value in headers or () for each in value.split(",")]


@implementer(IPushProducer)
@define(eq=False)
class _Taker:
    """The socket's side: says when it takes more, and ends a connection that takes nothing for too long."""

    request: WebRequest
    clock: IReactorTime
    gone: bool = False
    _paused: bool = False
    _waiting: Deferred[None] | None = field(default=None, init=False)

    async def ready(self) -> bool:
        """Wait until the socket takes more; False if it is gone."""
        if self._paused and not self.gone:
            self._waiting = Deferred()
            stall = self.clock.callLater(STALL_S, self.request.channel.transport.abortConnection)
            try:
                await self._waiting
            finally:
                self._waiting = None
                if stall.active():
                    stall.cancel()
        return not self.gone

    def pauseProducing(self) -> None:
        """The socket takes no more for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The socket takes more."""
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        """The connection is gone."""
        self.gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)
