"""Lines of JSON over a Twisted transport: framing, and nothing else.

Its own framer, because `LineReceiver` takes seconds over 1 MiB of newlines and can deliver lines that follow
one over its limit. Here a line over the limit ends the connection: nothing after it is delivered.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure

from retirecluster.wire.codec import MAX_LINE_BYTES, encode_line


class JsonLines(Protocol):
    """Delivers whole lines to `line_received`; subclasses override it and `line_too_long`."""

    max_line_bytes = MAX_LINE_BYTES
    max_unsent_bytes = 16 * 1024 * 1024
    """What may wait for a peer that does not read; beyond it the connection is ended."""
    dead = False

    def __init__(self) -> None:
        self._tail: list[bytes] = []
        self._tail_bytes = 0
        self._unsent_bytes: int | None = None

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        # A push producer: the transport says when its buffer is full, and when it has drained.
        transport.registerProducer(self, True)  # type: ignore[attr-defined]
        if isinstance(transport, TCPConnection):
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)

    def pauseProducing(self) -> None:
        self._unsent_bytes = self._unsent_bytes or 0

    def resumeProducing(self) -> None:
        self._unsent_bytes = None

    def stopProducing(self) -> None:
        """The transport is gone; `connectionLost` follows."""

    def dataReceived(self, data: bytes) -> None:
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._tail:
            self._tail.append(lines[0])
            lines[0] = b"".join(self._tail)
            self._tail.clear()
            self._tail_bytes = 0
        for line in lines:
            if self.dead:
                return
            self._deliver(line)
        if rest and not self.dead:
            self._tail.append(rest)
            self._tail_bytes += len(rest)
            if self._tail_bytes > self.max_line_bytes + 1:  # room for a \r
                self._overlong()

    def _deliver(self, line: bytes) -> None:
        if line.endswith(b"\r"):
            line = line[:-1]
        if len(line) > self.max_line_bytes:
            self._overlong()
        elif line and not line.isspace():
            self.line_received(line)

    def _overlong(self) -> None:
        self.line_too_long()
        self.hang_up()

    def line_received(self, line: bytes) -> None:
        raise NotImplementedError

    def line_too_long(self) -> None:
        """A line passed the limit; the connection is about to be closed."""

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self.send_line(encode_line(message))

    def send_line(self, line: bytes) -> None:
        """Send a line that is encoded already, newline included."""
        if self.dead or self.transport is None:
            return
        if self._unsent_bytes is not None:
            self._unsent_bytes += len(line)
            if self._unsent_bytes > self.max_unsent_bytes:
                self.abort()
                return
        self.transport.write(line)

    def hang_up(self) -> None:
        """Close once everything written is sent; nothing received from now on is delivered."""
        if not self.dead:
            self.dead = True
            self._tail.clear()
            transport = self.transport
            assert transport is not None
            transport.unregisterProducer()  # type: ignore[attr-defined]  # else it would wait for us for ever
            transport.loseConnection()

    def abort(self) -> None:
        """Close at once, whatever was still to be sent."""
        self.dead = True
        self._tail.clear()
        transport = self.transport
        if transport is not None:
            abort = getattr(transport, "abortConnection", transport.loseConnection)  # TLS has it, too
            abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.dead = True
        self._tail.clear()
