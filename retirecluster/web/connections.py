"""From sockets to requests, with what twisted.web leaves open: deadlines, caps, and answers that are ours.

- A request's head has to be complete within HEAD_S; its body has to come at RATE_FLOOR at least.
- A body over MAX_BODY_BYTES is refused before it is read; without the token the cap is SMALL_BODY_BYTES.
- What is not HTTP, or is refused here, is answered with a problem document like everything else.

Deadlines are numbers on each connection that one sweep a second looks at: no timer is set for a request.
"""

from __future__ import annotations

import re
from io import BytesIO
from math import inf
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import ISSLTransport, ITCPTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString, parse_qs
from twisted.web.server import Request

from retirecluster.domain.access import DEVICE, NOBODY, PUBLIC, SUBMIT, Caller
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.files import MAX_PIECE_BYTES
from retirecluster.web.answers import Answer, as_cluster_error, instance_of, problem, raw, reason_phrase
from retirecluster.web.guard import (
    CONSTANT_BLOCK,
    SAFE_METHODS,
    SANDBOXED_BLOCK,
    Guard,
    Peer,
    check_role,
    needs_token,
)

log = Logger()
TLS_HELLO = b"\x16"
"""The first byte of TLS."""
MAX_BODY_BYTES = 16 * 1024 * 1024
SMALL_BODY_BYTES = 64 * 1024
HEAD_S = 10.0
BODY_GRACE_S = 10.0
RATE_FLOOR = 4096
"""Bytes a second, on average, that a body has to come with after BODY_GRACE_S."""
BODY_S = 600.0
UPLOADS = b"/api/v1/files/"
"""Where bodies are pieces of files, and devices send them, too."""
IDLE_S = 60.0
SLOW_READER_S = 240.0
"""What a client gets, beyond IDLE_S, to take an answer that is still being sent."""
LINGER_S = 2.0
"""How long a refused client may still send before the connection is dropped under it."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Host(Protocol):
    """What a connection needs of its site."""

    guard: Guard

    def seconds(self) -> float:
        """Now, in seconds."""

    def new_request_id(self) -> str:
        """A request id that was not given before."""

    def joined(self, channel: Channel) -> None:
        """A connection begins."""

    def left(self, channel: Channel) -> None:
        """A connection has ended."""

    def render(self, request: WebRequest) -> None:
        """Answer a request that has passed."""

    def answered(self, route: str, method: bytes, status: int, came_s: float | None = None) -> None:
        """The head of an answer goes out; `route` is empty where none was found. `came_s` is when the request was
        there as a whole; None where it was not."""


class WebRequest(Request):
    """A request whose body is in memory and whose failures are problem documents."""

    defaultContentType = None
    request_id = ""
    route = ""
    """The path of the route that answers it, as it stands in the table."""
    caller = Caller(PUBLIC, NOBODY)
    """Who asks."""
    sandboxed = False
    """What it is answered with is somebody else's file."""
    refusal: ClusterError | None = None
    received_bytes = 0
    came_s: float | None = None
    """When all of it was there; None before."""
    channel: Channel
    content: BytesIO

    @property
    def device(self) -> str | None:
        """Whose token it carries, if a device's."""
        return self.caller.name.removeprefix("device:") if self.caller.role == DEVICE else None

    def peer(self) -> Peer:
        """Where it comes from."""
        return Peer(self.client.host, self.host.host, getattr(self.host, "port", 0), bool(self.isSecure()))

    def gotLength(self, length: int | None) -> None:
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.channel.body_grew(self):
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        # As twisted's, but forms in bodies are not parsed: nothing here takes one.
        self.came_s = self.channel.host.seconds()
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path, question, query = path.partition(b"?")
        self.args = parse_qs(query, True) if question else {}
        self.process()

    def process(self) -> None:
        """Answer. Unlike twisted's, it sends no banner and knows one resource."""
        self.site = self.channel.site
        self.responseHeaders.setRawHeaders(b"Date", [datetimeToString()])
        try:
            if self.refusal is not None:
                raise self.refusal
            self.channel.host.render(self)
        except ClusterError as error:
            self.answer_error(error)
        except Exception:
            self.processingFailed(Failure())

    def write_answer(self, answer: Answer) -> None:
        """Send a whole answer; the request is not finished yet."""
        self.prepare(answer)
        self.write(answer.body)

    def prepare(self, answer: Answer) -> None:
        """Set status and headers for an answer whose body is written next."""
        self.setResponseCode(answer.status, reason_phrase(answer.status))
        headers = self.responseHeaders
        if answer.status != 304:
            headers.setRawHeaders(b"Content-Type", [answer.media_type.encode("ascii")])
            headers.setRawHeaders(b"Content-Length", [b"%d" % len(answer.body)])
        headers.setRawHeaders(b"X-Request-Id", [self.request_id.encode("ascii")])
        for name, value in answer.headers:
            headers.addRawHeader(name, value)

    def answer_error(self, error: ClusterError) -> None:
        """Send a problem document and finish."""
        self.write_answer(self.problem(error))
        self.finish()

    def problem(self, error: ClusterError) -> Answer:
        """The problem document of this request."""
        return problem(error, self.request_id, instance_of(self.uri))

    def failed(self, failure: Failure) -> Answer:
        """The answer to an exception. What is not in the table of errors is logged, and not told to the caller."""
        value = failure.value
        error = as_cluster_error(value) if isinstance(value, Exception) else None
        if error is None:
            self._log.failure("request {request_id} failed", failure, request_id=self.request_id)
            error = ClusterError("internal", f"a mistake of ours; it is in the main's log as {self.request_id}")
        return self.problem(error)

    def processingFailed(self, reason: Failure) -> Failure:
        answer = self.failed(reason)
        if not self.startedWriting:
            self.write_answer(answer)
        if not self.finished and not self._disconnected:
            self.finish()
        return reason


class Channel(HTTPChannel):
    """One connection."""

    requestFactory = WebRequest
    host: Host
    site: Any
    transport: Any
    _networkProducer: Any
    deadline_s = inf
    refused = False
    _first = True
    _idle = False
    _extended = False
    _closing = False
    _body_began_s = 0.0
    _body_cap = 0

    # -- the life of a connection

    def connectionMade(self) -> None:
        self.timeOut = None
        self.deadline_s = self.host.seconds() + HEAD_S
        self.host.joined(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.host.left(self)
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        if self.refused:
            return
        if self._first and data.startswith(TLS_HELLO):
            log.warn("{host} speaks TLS, and this main listens without it (setting tls)", host=self.getPeer().host)
            self.transport.abortConnection()
            return
        self._first = False
        if self._idle:
            self._idle = False
            self.deadline_s = self.host.seconds() + HEAD_S
        super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        if not self.refused:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        if not self.refused:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        request: WebRequest = self.requests[-1]
        request.request_id = self._request_id(request)
        length: int | None = self.length
        try:
            self._check_head(request, length)
        except ClusterError as error:
            # A small body is read and dropped, so that the connection can go on; a large one never is.
            if length is None or length > SMALL_BODY_BYTES:
                self.refuse(error, request)
                return
            request.refusal = error
        self._body_began_s = self.host.seconds()
        self.deadline_s = self._body_began_s + BODY_GRACE_S
        super().allHeadersReceived()

    def _check_head(self, request: WebRequest, length: int | None) -> None:
        guard, headers = self.host.guard, request.requestHeaders
        self._body_cap = SMALL_BODY_BYTES
        most = MAX_PIECE_BYTES if self._path.startswith(UPLOADS) else MAX_BODY_BYTES
        if length is not None and length > most:
            raise too_large(most, length)
        request.caller = guard.check_head(self._command, headers, request.peer())
        if request.caller.may(SUBMIT) or (request.device is not None and most == MAX_PIECE_BYTES):
            self._body_cap = most
        elif length is not None and length > SMALL_BODY_BYTES:
            check_role(request.caller, SUBMIT, "a body of that size")
            raise too_large(SMALL_BODY_BYTES, length)

    def body_grew(self, request: WebRequest) -> bool:
        """More of a body has come; whether it is to be kept."""
        if self.refused:
            return False
        if request.received_bytes > self._body_cap:
            full = self._body_cap > SMALL_BODY_BYTES
            error = needs_token("a body of that size", SUBMIT)
            self.refuse(too_large(self._body_cap) if full or request.caller.is_known else error, request)
            return False
        earned_s = min(BODY_GRACE_S + request.received_bytes / RATE_FLOOR, BODY_S)
        self.deadline_s = self._body_began_s + earned_s
        return request.refusal is None

    def allContentReceived(self) -> None:
        if not self.refused:
            self.deadline_s = inf
            super().allContentReceived()

    def requestDone(self, request: WebRequest) -> None:
        self._idle = True
        self._extended = False
        self.deadline_s = min(self.deadline_s, self.host.seconds() + IDLE_S)
        if self._closing:
            self.persistent = False
        super().requestDone(request)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Any) -> None:
        lines = [version, b" ", code, b" ", reason, b"\r\n"]
        for name, values in headers.getAllRawHeaders():
            for value in values:
                lines += (name, b": ", value, b"\r\n")
        request = self._current()
        if request is None:
            self.host.answered("", b"", int(code))
        else:
            self.host.answered(request.route, request.method, int(code), request.came_s)
        lines += (SANDBOXED_BLOCK if request is not None and request.sandboxed else CONSTANT_BLOCK, b"\r\n")
        self.transport.write(b"".join(lines))

    # -- ends

    def expired(self) -> None:
        """The deadline is over."""
        if self.refused or self._closing:
            self.transport.abortConnection()
        elif not self._idle:
            self.refuse(ClusterError("timeout", "the request did not come in time"), self._current(), 408)
        elif self._waitingForTransport and not self._extended:
            self._extended = True
            self.deadline_s = self.host.seconds() + SLOW_READER_S
        else:
            self.close()

    def close(self) -> None:
        """End the connection: at once if it is idle, else when the answer is sent."""
        self._closing = True
        if self._idle or not self.requests:
            self.deadline_s = self.host.seconds() + LINGER_S
            self.loseConnection()

    def answering(self) -> WebRequest | None:
        """The read that is being answered, or waits for what it asked for; None if there is none.

        What changes something is not told of: it is answered whatever its caller may do by now.
        """
        request = self._current()
        reads = request is not None and not self._idle and request.method in SAFE_METHODS
        return request if reads else None

    def stop(self) -> None:
        """The main stops: what only reads is ended now, what changes something when it is answered."""
        request = self._current()
        reads = request is not None and not self._idle and request.method in SAFE_METHODS
        self.close()
        if self._waitingForTransport or reads:
            self.transport.abortConnection()

    def close_within(self, seconds: float) -> None:
        """Drop the connection unless it ends by itself in that time."""
        self._closing = True
        self.deadline_s = self.host.seconds() + seconds

    def refuse(self, error: ClusterError, request: WebRequest | None, status: int | None = None) -> None:
        """Answer without reading on, then end the connection."""
        if self.refused:
            return
        self.refused = True
        request_id = request.request_id if request is not None else ""
        request_id = request_id or self.host.new_request_id()
        instance = instance_of(self._path) if hasattr(self, "_path") else ""
        answer = problem(error, request_id, instance, status)
        self.host.answered(request.route if request else "", getattr(self, "_command", b""), answer.status)
        self.transport.write(raw(answer, {b"X-Request-Id": request_id.encode("ascii")}, CONSTANT_BLOCK))
        self._end_writing()

    def _end_writing(self) -> None:
        """Close our side and read on a little: closing with unread data would destroy the answer on its way."""
        transport = self.transport
        self.deadline_s = self.host.seconds() + LINGER_S
        if ITCPTransport.providedBy(transport) and not ISSLTransport.providedBy(transport):
            self._networkProducer.unregisterProducer()
            transport.loseWriteConnection()
        else:
            self.loseConnection()

    def lineLengthExceeded(self, line: bytes) -> None:
        self._respondToBadRequestAndDisconnect()

    def _respondToBadRequestAndDisconnect(self) -> None:
        what = "this is not a request by HTTP/1.1, or its head is too long"
        self.refuse(ClusterError("bad_field", what), self._current(), 400)

    def _current(self) -> WebRequest | None:
        return self.requests[-1] if self.requests else None

    def _request_id(self, request: WebRequest) -> str:
        given = request.requestHeaders.getRawHeaders(b"X-Request-Id")
        if given and len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
            return given[0].decode("ascii")
        return self.host.new_request_id()


def too_large(most: int, length: int | None = None) -> ClusterError:
    """The error for a body over the cap of `most` bytes."""
    what = "the body" if length is None else f"the body of {length} bytes"
    return ClusterError("too_large", f"{what} is over {most} bytes: send it in several requests")


def segments(path: bytes) -> list[bytes]:
    """The parts of a path after its first slash, decoded. Raises ClusterError bad_text if that is not UTF-8."""
    if b"%" not in path and path.isascii():
        return path[1:].split(b"/")
    parts = [unquote_to_bytes(part) for part in path[1:].split(b"/")]
    try:
        b"/".join(parts).decode("utf-8")
    except UnicodeDecodeError:
        raise ClusterError("bad_text", "the address is not UTF-8") from None
    return parts
