"""Joining by a join string: whoever answers has to show the pinned authority before it is told anything.

Two connections. On the first nothing is said; what answers shows the certificate of its authority, whose hash is
compared. The second trusts that authority alone, and says the secret.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

from attrs import frozen
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
from twisted.internet.protocol import Factory, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.errors import ERRORS, ClusterError
from retirecluster.domain.join_string import JoinString
from retirecluster.tls import Identity, NotTlsError, TlsEndpoint, TlsError, ca_hash, unverified_context
from retirecluster.wire.codec import decode_object
from retirecluster.wire.lines import JsonLines
from retirecluster.wire.messages import Message, read_message
from retirecluster.wire.session import PEERS_OF_WORKER
from retirecluster.worker.home import Address
from retirecluster.worker.keys import Keys

log = Logger()
STEP_S = 20.0
"""How long each of the two connections may take."""
UNREACHED = (ConnectError, ConnectionLost, DNSLookupError, TlsError, defer.TimeoutError)


@frozen
class Joined:
    """Where and as whom this device was let in; `waiting`: a person has to approve it first."""

    address: Address
    device_id: str
    waiting: bool


async def enroll(reactor: Any, found: JoinString, device_id: str, keys: Keys) -> Joined:
    """Join by the first of the main's addresses that answers; the keys are on disk when this returns.

    Raises ClusterError: unreachable, forbidden (somebody else answers), and what the main refuses it with.
    """
    why = ""
    for host in found.hosts:
        address = Address(host, found.port)
        try:
            return await _enroll_at(reactor, address, found, device_id, keys)
        except NotTlsError:
            why = f"{address} does not speak TLS: it is no main, or one that trusts its network; join its address then"
        except UNREACHED as error:
            why = f"{address}: {str(error) or 'no answer in time'}"
        log.warn("{why}", why=why)
    raise ClusterError("unreachable", f"no main at {', '.join(found.hosts)}: {why}")


async def _enroll_at(reactor: Any, address: Address, found: JoinString, device_id: str, keys: Keys) -> Joined:
    greeting = await _spoken(reactor, address, unverified_context(), None)
    ca = greeting.get("ca") or ""
    if not _is_pinned(ca, found.ca_hash):
        words = f"{address} is not the main that this join string is of: nothing was sent to it"
        raise ClusterError("forbidden", f"{words}. Somebody may be in the way; or the main has a new authority")
    asked = {"secret": found.secret, "device_id": device_id, "nonce": keys.nonce()}
    answer = await _spoken(reactor, address, _context(ca, keys), asked)
    keys.keep(ca, answer["certificate"], answer["key"])
    keys.identity()
    return Joined(address, answer["device_id"], answer["waiting"])


def _is_pinned(ca: str, pinned: str) -> bool:
    try:
        return ca_hash(ca) == pinned
    except ValueError:
        return False


def _context(ca: str, keys: Keys) -> ssl.SSLContext:
    """One that trusts the pinned authority. A device that belongs to it already shows that."""
    if keys.here:
        try:
            earlier = keys.identity()
            if ca_hash(earlier.ca) == ca_hash(ca):
                return earlier.context()
        except ClusterError as error:
            log.warn("{why}", why=error.message)
    return Identity(ca).context()


async def _spoken(
    reactor: Any, address: Address, context: ssl.SSLContext, asked: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The greeting of what is there; with `asked`, its answer to that."""
    below = HostnameEndpoint(reactor, address.host, address.port)
    attempt = TlsEndpoint(reactor, below, context).connect(_TalkFactory(asked))
    talk = await attempt.addTimeout(STEP_S, reactor)
    assert isinstance(talk, _Talk)
    try:
        answer = await talk.answer.addTimeout(STEP_S, reactor)
    finally:
        talk.abort()
        await talk.closed
    return answer


class _Talk(JsonLines):
    """Waits for the greeting; says `join` then, if there is something to say, and waits for the answer."""

    def __init__(self, asked: Mapping[str, Any] | None) -> None:
        super().__init__()
        self._asked = asked
        self.answer: Deferred[Mapping[str, Any]] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def line_received(self, line: bytes) -> None:
        try:
            message = read_message(decode_object(line), PEERS_OF_WORKER)
        except ClusterError as error:
            return self._fail(ClusterError("unreachable", f"what answers is no main: {error.message}"))
        self._heard(message)

    def _heard(self, message: Message) -> None:
        data = message.data
        if message.name == "connection_ack" and self._asked is not None:
            self.send({"message_type": "join", "sender_id": self._asked["device_id"], "data": dict(self._asked)})
        elif message.name in ("connection_ack", "join_ack"):
            if not self.answer.called:
                self.answer.callback(data)
        elif message.name == "error":
            self._fail(ClusterError(data["code"] if data["code"] in ERRORS else "internal", data["message"]))

    def _fail(self, error: Exception) -> None:
        if not self.answer.called:
            self.answer.errback(error)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self._fail(ConnectionLost("the connection was closed before the main had answered"))
        self.closed.callback(None)


class _TalkFactory(Factory):
    noisy = False

    def __init__(self, asked: Mapping[str, Any] | None) -> None:
        self._asked = asked

    def buildProtocol(self, addr: object) -> _Talk:
        return _Talk(self._asked)
