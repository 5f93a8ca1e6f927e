"""TLS for what connects to a main: Python's own `ssl` under Twisted's protocols.

Not Twisted's TLS: that needs pyOpenSSL and cryptography, which phones and ARMv6 boards have no packages of, and which
take 12 MiB of memory. Only the connecting side is here, and nothing that a main does not need: one name, one authority
that is pinned, TLS 1.2 at least, no renegotiation.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import define, frozen
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.tcp import Connection as TCPConnection
from twisted.python.failure import Failure
from zope.interface import implementer

SERVER_NAME = "main.retirecluster.internal"
"""The name in every main's certificate, whatever its address is."""
HANDSHAKE_WITHIN_S = 15.0
READ_BYTES = 65_536
WRITE_BYTES = 131_072


class TlsError(ConnectionError):
    """The handshake failed, and this is why. Nothing that was to be sent has left."""


class NotTlsError(TlsError):
    """What answers does not speak TLS."""


class PinError(TlsError):
    """What answers is not the main that this device has joined."""


@frozen
class Identity:
    """What a device has from joining: the authority that it trusts, as PEM text, and a file with its key and its
    certificate (None: it has none yet)."""

    ca: str
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Settings of connections that are made with it. Raises OSError, ssl.SSLError for a file that is not sound."""
        context = _new_context()
        context.load_verify_locations(cadata=self.ca)
        if self.key_file is not None:
            context.load_cert_chain(self.key_file)
        return context


def unverified_context() -> ssl.SSLContext:
    """For the first look at a main, which is told nothing: who it is is seen by the hash of what it shows."""
    context = _new_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | getattr(ssl, "OP_NO_RENEGOTIATION", 0)
    return context


def ca_hash(pem: str) -> str:
    """The hash by which an authority is pinned: SHA-256 of its certificate (DER), in small hexadecimal digits.

    Raises ValueError for what is not one certificate.
    """
    return sha256(ssl.PEM_cert_to_DER_cert(pem.strip() + "\n")).hexdigest()


@implementer(IPushProducer)
@define(eq=False)
class _Valve:
    """What the socket tells of how full it is, handed on to whoever writes above TLS."""

    above: TlsConnection

    def pauseProducing(self) -> None:
        self.above.full = True
        if self.above.producer is not None:
            self.above.producer.pauseProducing()

    def resumeProducing(self) -> None:
        self.above.full = False
        if self.above.producer is not None:
            self.above.producer.resumeProducing()

    def stopProducing(self) -> None:
        """The socket is gone; `connectionLost` follows."""


@implementer(ITransport)
class TlsConnection(Protocol):
    """A protocol to the socket, and the transport of another protocol: what passes is encrypted on the way.

    That other one is connected once the handshake is done, so whatever it says goes to whom the context trusts. A
    connection that ends without the other side's word that it is the end is lost (ConnectionLost), not done.
    """

    transport: Any

    def __init__(self, context: ssl.SSLContext, upper: IProtocol, ready: Deferred[IProtocol]) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = SERVER_NAME if context.check_hostname else None
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self._upper = upper
        self._ready: Deferred[IProtocol] | None = ready
        self._reason: Failure | None = None
        self._paused = self._reading = self._ended = False
        self.producer: IPushProducer | None = None
        self.full = False
        """The socket takes no more for now."""
        self.disconnecting = False

    # -- from the socket

    def connectionMade(self) -> None:
        if isinstance(self.transport, TCPConnection):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(_Valve(self), True)
        self._shake_hands()

    def dataReceived(self, data: bytes) -> None:
        if self._ended:
            return
        self._incoming.write(data)
        if self._ready is not None:
            self._shake_hands()
        if self._ready is None:
            self._read()

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._flush()
        except ssl.SSLError as error:
            return self._fail(_in_words(error))
        self._flush()
        ready, self._ready = self._ready, None
        self._upper.makeConnection(self)
        if ready is not None:
            ready.callback(self._upper)

    def _read(self) -> None:
        """Hand on what can be read, until the other protocol wants a pause."""
        if self._reading:
            return
        self._reading = True
        try:
            while not (self._paused or self._ended):
                data = self._tls.read(READ_BYTES)
                if not data:
                    raise ssl.SSLZeroReturnError()
                self._upper.dataReceived(data)
        except ssl.SSLWantReadError:
            self._flush()  # it may have had to answer, as to a new key
        except ssl.SSLZeroReturnError:
            self._end(Failure(ConnectionDone()))
        except ssl.SSLError as error:
            self._fail(_in_words(error))
        finally:
            self._reading = False

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        clean = reason.check(ConnectionDone) is not None
        if not self._ended and self._ready is None:
            self._drain()
        self._ended = True
        if self._reason is None and clean:
            # Nobody said that this is the end: what came may be the half of what was sent.
            words = "the connection was closed during the handshake" if self._ready else "closed in the middle of TLS"
            self._reason = Failure(ConnectionLost(words))
        told = self._reason or reason
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.errback(Failure(TlsError(told.getErrorMessage())) if told.check(ConnectionLost) else told)
        else:
            self._upper.connectionLost(told)

    def _drain(self) -> None:
        """What came before the end is handed on, also while there is a pause: nothing can follow it."""
        self._paused = False
        self._read()

    # -- ends

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self.transport.write(data)

    def _fail(self, error: Exception) -> None:
        """TLS cannot go on. What it has to say of that (an alert) is sent."""
        self._end(Failure(error))

    def _end(self, reason: Failure) -> None:
        if not self._ended:
            self._ended = True
            self._reason = reason
            self._say_goodbye()
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _say_goodbye(self) -> None:
        # The other side's word is not waited for; and there may be nothing to end yet, or any more.
        with suppress(ssl.SSLError, ValueError, OSError):
            self._tls.unwrap()
        self._flush()

    # -- the transport of the other protocol

    def write(self, data: bytes) -> None:
        """Encrypt and send. After `loseConnection` only what a registered producer still has."""
        if self._ended or (self.disconnecting and self.producer is None):
            return
        view = memoryview(data)
        try:
            for start in range(0, len(view), WRITE_BYTES):
                self._tls.write(view[start : start + WRITE_BYTES])
                self._flush()
        except ssl.SSLError as error:
            self._fail(_in_words(error))

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close once everything written is sent, and a registered producer has ended."""
        self.disconnecting = True
        if self.producer is None:
            self._end(Failure(ConnectionDone()))

    def abortConnection(self) -> None:
        """Close at once."""
        self.disconnecting = self._ended = True
        self._reason = self._reason or Failure(ConnectionAborted())
        self.transport.abortConnection()

    def getPeer(self) -> IAddress:
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        host: IAddress = self.transport.getHost()
        return host

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """`producer` is told to pause while the socket is full. Only those that push are taken."""
        if self.producer is not None or not streaming:
            raise RuntimeError("one producer at a time, and one that pushes")
        if self._ended:
            producer.stopProducing()
            return
        self.producer = producer
        if self.full:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        if self.disconnecting:
            self._end(Failure(ConnectionDone()))

    def pauseProducing(self) -> None:
        """Nothing more is handed on, or read, for now."""
        self._paused = True
        if not self._ended:
            self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if not self._ended:
            self.transport.resumeProducing()
            self._read()

    def stopProducing(self) -> None:
        self.loseConnection()

    def give_up(self, error: Exception) -> None:
        """End a handshake that is not done, for this reason."""
        if self._ready is not None:
            self._reason = Failure(error)
            self.abortConnection()


def _in_words(error: ssl.SSLError) -> TlsError | ConnectionLost:
    """What went wrong, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return PinError(f"its certificate is not of the cluster that this device joined: {error.verify_message}")
    reason = error.reason or str(error)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE"):
        return NotTlsError("what answers does not speak TLS")
    return TlsError(f"TLS ended: {reason.replace('_', ' ').lower()}")


class _TlsFactory(Factory):
    noisy = False

    def __init__(self, context: ssl.SSLContext, above: IProtocolFactory, ready: Deferred[IProtocol]) -> None:
        self._context = context
        self._above = above
        self._ready = ready

    def buildProtocol(self, addr: IAddress) -> TlsConnection | None:  # type: ignore[override]
        upper = self._above.buildProtocol(addr)
        return None if upper is None else TlsConnection(self._context, upper, self._ready)


@implementer(IStreamClientEndpoint)
@define(eq=False)
class TlsEndpoint:
    """TLS over another endpoint. `connect` fires once the handshake is done; it fails with TlsError where it does."""

    reactor: IReactorTime
    below: IStreamClientEndpoint
    context: ssl.SSLContext

    def __repr__(self) -> str:
        return f"TLS over {self.below}"  # as Twisted logs it

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return ensureDeferred(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        ready: Deferred[IProtocol] = Deferred()  # once cancelled, it takes the end of the connection that follows
        connection = await self.below.connect(_TlsFactory(self.context, factory, ready))
        assert isinstance(connection, TlsConnection)
        late = TlsError(f"the handshake of TLS was not done within {HANDSHAKE_WITHIN_S:g} s")
        call: IDelayedCall = self.reactor.callLater(HANDSHAKE_WITHIN_S, connection.give_up, late)
        try:
            return await ready
        except CancelledError:
            connection.give_up(late)
            raise
        finally:
            if call.active():
                call.cancel()
