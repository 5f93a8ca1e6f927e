"""Files between a main and whoever fetches or sends them: over HTTP, in pieces, going on where a broken one stopped.

Workers and the client share this; it needs Twisted alone. Everything that touches the disk, hashing included, runs in
a thread, and no more than a piece of a file is ever in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IConsumer, IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, _HTTP11ClientFactory
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IAgentEndpointFactory, IBodyProducer, IResponse
from zope.interface import implementer

from retirecluster.domain.errors import ERRORS, ClusterError
from retirecluster.domain.fields import Problem

if TYPE_CHECKING:
    from ssl import SSLContext

PIECE_BYTES = 1024 * 1024
"""What one upload request carries. Larger ones are no faster, and what they take of memory stays with the process."""
WRITE_BYTES = 512 * 1024
READ_BYTES = 256 * 1024
CONNECT_TIMEOUT_S = 10.0
ANSWER_S = 120.0
"""How long one request may take, or a download may bring nothing."""
IDLE_CONNECTION_S = 5
InThread = Callable[..., Awaitable[Any]]
"""Runs a blocking function with its arguments elsewhere."""
Progress = Callable[[int, int], None]
"""Told how many bytes of how many are through."""
_CODE_BY_STATUS = {401: "unauthorized", 403: "forbidden", 404: "not_found", 413: "too_large", 507: "no_space"}


@frozen
class Held:
    """How much of a content the main has, in bytes."""

    length: int
    complete: bool


@define(eq=False)
class PartFile:
    """A file that is still coming. `open` takes over what an earlier try left at `path`; all methods block."""

    path: Path
    length: int = 0
    _hash: Any = field(factory=sha256)
    _fd: int = -1

    def open(self) -> None:
        """Open or make it, and read what is there."""
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        while data := os.read(self._fd, READ_BYTES):
            self._hash.update(data)
            self.length += len(data)

    def write(self, data: bytes) -> None:
        """Add to it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._hash.update(data)
        self.length += len(data)

    def restart(self) -> None:
        """Throw away what came."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self.length, self._hash = 0, sha256()

    def digest(self) -> str:
        return str(self._hash.hexdigest())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _QuietFactory(_HTTP11ClientFactory):
    """Each connection is not worth two lines in the log."""

    noisy = False


class FileDoor:
    """The files of one main. `headers` go with every request, `context` is for https; close() it after use."""

    def __init__(
        self,
        reactor: Any,
        base: str,
        headers: Mapping[str, str],
        in_thread: InThread,
        context: SSLContext | None = None,
    ) -> None:
        self.base = base.rstrip("/")
        self._reactor = reactor
        self._headers = dict(headers)
        self._in_thread = in_thread
        self._pool = HTTPConnectionPool(reactor)
        self._pool._factory = _QuietFactory
        self._pool.cachedConnectionTimeout = IDLE_CONNECTION_S
        self._pool.maxPersistentPerHost = 8
        if context is None:
            self._agent = Agent(reactor, connectTimeout=CONNECT_TIMEOUT_S, pool=self._pool)
        else:
            endpoints = HttpsEndpoints(reactor, context, CONNECT_TIMEOUT_S)
            self._agent = Agent.usingEndpointFactory(reactor, endpoints, self._pool)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._pool.closeCachedConnections()

    # -- fetching

    async def fetch(self, path: str, part: PartFile, progress: Progress | None = None, room: Any = None) -> None:
        """Bring `part`, which is open, to the end of the file at `path` of the main.

        `room(bytes)` is asked, if given, before that many are written; what it raises is raised. Raises ClusterError:
        unreachable where the connection breaks (what came stays), and whatever the main says.
        """
        more = {"Range": f"bytes={part.length}-"} if part.length else {}
        response = await self._ask(b"GET", path, more)
        if response.code == 416:
            await self._drained(response)
            await self._in_thread(part.restart)
            response = await self._ask(b"GET", path, {})
        if response.code not in (200, 206):
            raise error_of(response.code, await self._drained(response))
        if response.code == 200 and part.length:
            await self._in_thread(part.restart)
        coming = 0 if response.length == UNKNOWN_LENGTH else int(response.length)
        if room is not None:
            try:
                room(coming)
            except BaseException:
                await _dropped(response)
                raise
        whole = part.length + coming

        async def write(data: bytes) -> None:
            await self._in_thread(part.write, data)
            if progress is not None:
                progress(part.length, whole)

        await _Body.deliver(self._reactor, response, write)

    # -- sending

    async def held(self, digest: str, query: str = "") -> Held | None:
        """How much of a content the main has; None if nothing."""
        response = await self._ask(b"HEAD", f"/api/v1/files/{digest}{query}", {})
        await self._drained(response)
        if response.code == 404:
            return None
        if response.code not in (200, 204):
            raise error_of(response.code, b"")
        return Held(_offset(response), response.code == 200)

    async def send(
        self, digest: str, source: Path, query: Mapping[str, str] | None = None, progress: Progress | None = None
    ) -> None:
        """Have the main hold the content of a file whose SHA-256 is `digest`. Raises ClusterError, OSError."""
        asked = "&".join(f"{name}={value}" for name, value in (query or {}).items())
        held = await self.held(digest, f"?{asked}" if asked else "")
        fd: int = await self._in_thread(os.open, source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            offset, done = (held.length, held.complete) if held is not None else (0, False)
            while not done:
                data: bytes = await self._in_thread(_read_piece, fd, offset)
                if offset + len(data) < size and len(data) < PIECE_BYTES:
                    raise ClusterError("conflict", f"{source} became shorter while it was sent")
                place = f"/api/v1/files/{digest}?offset={offset}" + (f"&{asked}" if asked else "")
                offset, done = await self._send_piece(place, data, size, offset)
                if progress is not None:
                    progress(offset, size)
        finally:
            os.close(fd)
        if progress is not None:
            progress(size, size)

    async def _send_piece(self, place: str, data: bytes, size: int, offset: int) -> tuple[int, bool]:
        headers = {"Content-Type": "application/octet-stream", "Upload-Length": str(size)}
        response = await self._ask(b"PUT", place, headers, data)
        body = await self._drained(response)
        if response.code == 409 and response.headers.hasHeader("Upload-Offset"):
            found = _offset(response)
            if found == offset or found > size:
                raise error_of(response.code, body)
            return found, False
        if response.code not in (201, 202):
            raise error_of(response.code, body)
        return _offset(response), response.code == 201

    # -- requests

    async def _ask(self, method: bytes, path: str, more: Mapping[str, str], body: bytes | None = None) -> IResponse:
        headers = Headers({name: [value] for name, value in {**self._headers, **more}.items()})
        producer = None if body is None else _Bytes(body)
        asked = self._agent.request(method, (self.base + path).encode("ascii"), headers, producer)
        return await self._limited(asked)

    async def _drained(self, response: IResponse) -> bytes:
        if response.length == 0:
            return b""
        pieces: list[bytes] = []

        async def keep(data: bytes) -> None:
            pieces.append(data)

        await _Body.deliver(self._reactor, response, keep)
        return b"".join(pieces)

    async def _limited(self, work: Deferred[Any]) -> Any:
        """What `work` gives; unreachable if it takes too long or the connection breaks."""
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            work.cancel()

        call = self._reactor.callLater(ANSWER_S, expire)
        try:
            return await work
        except Exception as error:
            if expired:
                raise ClusterError("unreachable", f"the main did not answer within {ANSWER_S:g} s") from None
            if _was_cancelled(error):
                raise CancelledError() from None
            raise unreachable(error) from None
        finally:
            if call.active():
                call.cancel()


def unreachable(error: BaseException) -> ClusterError:
    """The error for a connection that broke."""
    inner = error
    while reasons := getattr(inner, "reasons", None):
        inner = reasons[0].value
    return ClusterError("unreachable", f"the connection to the main broke: {str(inner) or type(inner).__name__}")


def error_of(status: int, body: bytes) -> ClusterError:
    """What an answer of the main says is wrong."""
    document: Any = None
    with suppress(ValueError):
        document = json.loads(body)
    if not isinstance(document, dict):
        code = _CODE_BY_STATUS.get(status, "unreachable" if status >= 500 else "internal")
        return ClusterError(code, f"the main answered {status}")
    code = str(document.get("error_code"))
    problems = [Problem(str(each.get("field")), str(each.get("message"))) for each in document.get("errors") or ()]
    return ClusterError(code if code in ERRORS else "internal", str(document.get("detail")), problems=problems)


def _offset(response: IResponse) -> int:
    values = response.headers.getRawHeaders("Upload-Offset") or ["0"]
    return int(values[0]) if values[0].isdigit() else 0


def _read_piece(fd: int, offset: int) -> bytes:
    data = b""
    while len(data) < PIECE_BYTES and (more := os.pread(fd, PIECE_BYTES - len(data), offset + len(data))):
        data = data + more if data else more
    return data


def _was_cancelled(error: BaseException) -> bool:
    return isinstance(error, CancelledError) or any(
        reason.check(CancelledError) for reason in getattr(error, "reasons", ())
    )


@implementer(IBodyProducer)
class _Bytes:
    """A request's body that is in memory already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._data)
        return succeed(None)

    def pauseProducing(self) -> None:
        """All of it is on its way."""

    def resumeProducing(self) -> None:
        """All of it is on its way."""

    def stopProducing(self) -> None:
        """All of it is on its way."""


async def _dropped(response: IResponse) -> None:
    """Take nothing of a response's body, and end its connection."""
    body = _Body(None, lambda data: succeed(None))
    response.deliverBody(body)
    body.stop()
    with suppress(ClusterError, CancelledError):
        await body.done


class _Body(Protocol):
    """A response's body on its way into a file: what is not written yet holds up the connection."""

    transport: Any

    def __init__(self, reactor: Any, write: Callable[[bytes], Awaitable[None]]) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self.stop())
        self._reactor = reactor
        self._write = write
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._writing = False
        self._paused = False
        self._end: Failure | None = None
        self._stall: IDelayedCall | None = None

    @classmethod
    async def deliver(cls, reactor: Any, response: IResponse, write: Callable[[bytes], Awaitable[None]]) -> None:
        """Write all of a response's body. Raises ClusterError unreachable if it ends early, and what `write` raises."""
        body = cls(reactor, write)
        response.deliverBody(body)
        await body.done

    def connectionMade(self) -> None:
        if self._reactor is not None:
            self._stall = self._reactor.callLater(ANSWER_S, self.stop)

    def dataReceived(self, data: bytes) -> None:
        if self._stall is not None and self._stall.active():
            self._stall.reset(ANSWER_S)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= WRITE_BYTES:
            self._pump()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._stall is not None and self._stall.active():
            self._stall.cancel()
        self._end = reason
        self._pump()

    def stop(self) -> None:
        """End the connection; what came is still written."""
        if self.transport is not None and self._end is None:
            self.transport.stopProducing()

    def _pump(self) -> None:
        if self._writing:
            if not self._paused and self._end is None:
                self._paused = True
                self.transport.pauseProducing()
        elif self._waiting:
            data, self._waiting, self._waiting_bytes = b"".join(self._waiting), [], 0
            self._writing = True
            ensureDeferred(self._write_it(data)).addCallbacks(self._written, self._failed)
        elif self._end is not None:
            self._finish(self._end)

    async def _write_it(self, data: bytes) -> None:
        await self._write(data)

    def _written(self, _: None) -> None:
        self._writing = False
        if self._paused and self._end is None:
            self._paused = False
            self.transport.resumeProducing()
        if self._end is not None or self._waiting_bytes >= WRITE_BYTES:
            self._pump()

    def _failed(self, failure: Failure) -> None:
        self._waiting.clear()
        self.stop()
        if not self.done.called:
            self.done.errback(failure)

    def _finish(self, reason: Failure) -> None:
        if self.done.called:
            return
        if reason.check(ResponseDone):
            self.done.callback(None)
        else:
            self.done.errback(unreachable(reason.value or ConnectionError("it ended")))


@implementer(IAgentEndpointFactory)
@define(eq=False)
class HttpsEndpoints:
    """For Twisted's HTTP client: connections to a main by TLS with these settings, whatever its address is."""

    reactor: Any
    context: SSLContext
    within_s: float

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        if uri.scheme != b"https":
            raise ValueError("only https is asked for here")
        host = uri.host.decode("ascii").strip("[]")
        below = HostnameEndpoint(self.reactor, host, uri.port, self.within_s)
        from retirecluster.tls import TlsEndpoint  # not above: memory, where there is no TLS

        return TlsEndpoint(self.reactor, below, self.context)
