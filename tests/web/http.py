"""HTTP by hand, over real sockets: exact bytes go out, and what came back is taken apart strictly."""

from __future__ import annotations

import json
from typing import Any

from attrs import field, frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol

TIMEOUT_S = 20.0


@frozen
class Response:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.json["status"] == "success", self.body
        return self.json["data"]

    @property
    def code(self) -> str:
        """The error code of a problem document."""
        assert self.headers["content-type"] == "application/problem+json", self
        code: str = self.json["error_code"]
        return code

    @property
    def text(self) -> str:
        return self.body.decode()


class Wire(Protocol):
    """A connection; `data` is all that came."""

    def __init__(self) -> None:
        self.data = b""
        self.closed: Deferred[None] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for wanted, waiting in list(self._waiting):
            if wanted in self.data:
                self._waiting.remove((wanted, waiting))
                waiting.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.closed.callback(None)
        for _, waiting in self._waiting:
            waiting.errback(reason)

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    async def until(self, wanted: bytes, timeout_s: float = TIMEOUT_S) -> bytes:
        """All data once `wanted` is in it."""
        if wanted not in self.data:
            waiting: Deferred[None] = Deferred()
            self._waiting.append((wanted, waiting))
            waiting.addTimeout(timeout_s, reactor)
            await waiting
        return self.data

    async def end(self, timeout_s: float = TIMEOUT_S) -> bytes:
        """All data once the other side has closed."""
        self.closed.addTimeout(timeout_s, reactor)
        await self.closed
        return self.data

    async def leave(self) -> None:
        self.transport.abortConnection()
        await self.closed


async def wire(port: int) -> Wire:
    """A bare connection."""
    protocol: Wire = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Wire())
    return protocol


def parse(data: bytes, method: str = "GET") -> Response:
    """The one response in `data`."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    assert first.startswith("HTTP/1.1 "), first
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers, f"{name} stands twice"
        headers[name.lower()] = value
    if headers.get("transfer-encoding") == "chunked":
        body = dechunked(body)
    elif method != "HEAD" and "content-length" in headers:
        assert len(body) == int(headers["content-length"]), (first, headers)
    return Response(int(first.split()[1]), headers, body)


def dechunked(data: bytes) -> bytes:
    """A chunked body, whole or cut."""
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size or b"0", 16)
        found, data = found + data[:length], data[length + 2 :]
        if not length:
            break
    return found


class Http:
    """Requests to one main."""

    def __init__(self, port: int, token: str) -> None:
        self.port = port
        self.token = token

    async def raw(self, data: bytes, method: str = "GET") -> Response:
        """The answer to exactly these bytes, on a connection that then ends."""
        connection = await wire(self.port)
        connection.send(data)
        return parse(await connection.end(), method)

    async def call(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: bytes | None = None,
        token: bool = True,
        **headers: str,
    ) -> Response:
        """One request. Header names are written with _ for -; `document` is sent as JSON."""
        given = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        if token:
            given["Authorization"] = f"Bearer {self.token}"
        if document is not None:
            body = json.dumps(document).encode()
            given["Content-Type"] = "application/json"
        if body is not None:
            given["Content-Length"] = str(len(body))
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
        return await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + (body or b""), method)

    async def get(self, path: str, **headers: str) -> Response:
        return await self.call("GET", path, token=False, **headers)

    async def post(self, path: str, document: Any = None, **headers: str) -> Response:
        return await self.call("POST", path, document, **headers)

    async def stream(self, path: str, *headers: str) -> Wire:
        """An event stream, its head read."""
        connection = await wire(self.port)
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", *headers, "", ""]
        connection.send("\r\n".join(lines).encode())
        await connection.until(b"retry: 3000\n")
        return connection


def events_in(data: bytes) -> list[dict[str, str]]:
    """The events in a stream's response so far: event, id and data of each."""
    body = dechunked(data.partition(b"\r\n\r\n")[2]).decode()
    found = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append(fields)
    return found
