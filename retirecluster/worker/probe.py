"""`--test`: is there a main, does it speak this protocol, and how far away is it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.codec import decode_object
from retirecluster.wire.lines import JsonLines
from retirecluster.wire.messages import PROTOCOL_VERSION, read_message
from retirecluster.wire.session import PEERS_OF_WORKER

PROBE_WITHIN_S = 10.0


@frozen
class Found:
    """A main that answered. `round_trip_s` is that of a ping."""

    server_id: str
    protocol_version: int
    auth: str
    round_trip_s: float


class _Probe(JsonLines):
    def __init__(self, reactor: IReactorTime) -> None:
        super().__init__()
        self._reactor = reactor
        self._greeting: Mapping[str, Any] | None = None
        self._asked_at = 0.0
        self.found: Deferred[Found] = Deferred()

    def connectionMade(self) -> None:
        super().connectionMade()
        if isinstance(self.transport, TCPConnection):
            self.transport.write(b"\n")  # means nothing to a main; one that wants TLS says so at once

    def line_received(self, line: bytes) -> None:
        try:
            message = read_message(decode_object(line), PEERS_OF_WORKER)
        except ClusterError as error:
            return self._fail(f"what answers does not speak this protocol: {error.message}")
        if message.name == "connection_ack":
            self._greeting = message.data
            self._asked_at = self._reactor.seconds()
            self.send({"message_type": "ping", "sender_id": "test", "data": {}})
        elif message.name == "pong" and self._greeting is not None:
            self._answered(self._greeting)
        elif message.name == "error":
            self._fail(f"the main refuses: {message.data['message']}")

    def _answered(self, greeting: Mapping[str, Any]) -> None:
        version = greeting["protocol_version"]
        if version != PROTOCOL_VERSION:
            return self._fail(f"the main speaks protocol version {version}, this worker {PROTOCOL_VERSION}")
        round_trip_s = self._reactor.seconds() - self._asked_at
        if not self.found.called:
            self.found.callback(Found(greeting["server_id"], version, greeting["auth"], round_trip_s))
        self.hang_up()

    def _fail(self, why: str) -> None:
        if not self.found.called:
            self.found.errback(ClusterError("unreachable", why))
        self.hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        greeted = self._greeting is not None
        super().connectionLost(reason)
        if not self.found.called:
            what = "before it answered a ping" if greeted else "without a greeting: is that the worker port of a main?"
            self.found.errback(ClusterError("unreachable", f"the connection was closed {what}"))


class _ProbeFactory(Factory):
    noisy = False

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor

    def buildProtocol(self, addr: object) -> _Probe:
        return _Probe(self._reactor)


async def probe(reactor: IReactorTime, endpoint: IStreamClientEndpoint) -> Found:
    """Connect, wait for the greeting, ping. Raises ClusterError unreachable with one line that says why."""
    attempt = endpoint.connect(_ProbeFactory(reactor))
    attempt.addTimeout(PROBE_WITHIN_S, reactor)
    try:
        connection = await attempt
        assert isinstance(connection, _Probe)
        found = connection.found
        found.addTimeout(PROBE_WITHIN_S, reactor)
        return await found
    except defer.TimeoutError:
        raise ClusterError("unreachable", f"no answer within {PROBE_WITHIN_S:g} s") from None
    except (ConnectError, ConnectionError, DNSLookupError) as error:  # the second has the errors of TLS, too
        raise ClusterError("unreachable", str(error)) from None
