"""TLS on the main's ports: what is spoken there, what is done with bytes that are not TLS, and who has called."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from attrs import define, field
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.internet.interfaces import IAddress, IOpenSSLServerConnectionCreator, IProtocolFactory, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from retirecluster.main.certificates import Authority
from retirecluster.wire.codec import encode_line
from retirecluster.wire.session import TokenBucket

log = Logger()
HELLO = b"\x16"
"""The first byte of TLS."""
_NO_RENEGOTIATION = 0x40000000
"""SSL_OP_NO_RENEGOTIATION, which has this value in every OpenSSL since 1.1.0h."""

NEEDS_TLS = "this port speaks TLS alone: let the device join by a join string (retire-cluster join-token on the main)"
_PAGE = b"This port speaks https alone.\n"
HTTP_IN_CLEAR = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_PAGE), _PAGE)
)


def lines_in_clear(server_id: str) -> bytes:
    """What a worker is told that does not speak TLS."""
    said = {"message_type": "error", "sender_id": server_id, "data": {"code": "unauthorized", "message": NEEDS_TLS}}
    return encode_line(said)


@implementer(IOpenSSLServerConnectionCreator)
@define(eq=False)
class ServerTls:
    """The main's certificate as connections use it. `reload` after a new one was issued: open connections stay.

    With `asks` the other side is asked for a certificate of this authority. Who shows none is a stranger; who shows a
    foreign one is not talked to.
    """

    authority: Authority
    asks: bool
    _context: SSL.Context = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.reload()

    def reload(self) -> None:
        """Use the key and certificate that are in the folder now."""
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE | _NO_RENEGOTIATION)
        folder = self.authority.folder
        context.use_privatekey_file(str(folder / "main.key"))
        context.use_certificate_chain_file(str(folder / "main.crt"))
        context.check_privatekey()
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if self.asks:
            context.load_verify_locations(str(folder / "ca.crt"))
            context.load_client_ca(str(folder / "ca.crt").encode())
            context.set_verify(SSL.VERIFY_PEER, lambda connection, certificate, code, depth, sound: bool(sound))
            context.set_session_id(b"retirecluster")
        self._context = context

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._context, None)


class CheckedTls(BufferingTLSTransport):
    """One connection. What does not begin as TLS does is told so in the clear, and ended at once."""

    factory: TlsPort
    _begun = False
    _plain = False

    def dataReceived(self, bytes: bytes) -> None:  # noqa: A002
        if not self._begun:
            self._begun = True
            self._plain = not bytes.startswith(HELLO)
            if self._plain:
                return self._refuse_plain()
        if not self._plain:
            super().dataReceived(bytes)

    def _refuse_plain(self) -> None:
        self.factory.note(self._host(), "did not speak TLS, which this port needs")
        transport: Any = self.transport
        transport.write(self.factory.said_in_clear)
        self._lostTLSConnection = True
        transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        failed = self._reason if not self._handshakeDone and not self._plain else None
        if failed is not None and failed.check(SSL.Error):
            self.factory.note(self._host(), f"the handshake of TLS failed: {_in_words(failed.value)}")
        super().connectionLost(reason)

    def _host(self) -> str:
        return str(getattr(self.getPeer(), "host", "local"))


class TlsPort(TLSMemoryBIOFactory):
    """A factory behind TLS. `said_in_clear` answers whoever speaks without."""

    protocol = CheckedTls
    noisy = False

    def __init__(self, tls: ServerTls, behind: IProtocolFactory, said_in_clear: bytes, clock: IReactorTime) -> None:
        super().__init__(tls, False, behind, clock)
        self.said_in_clear = said_in_clear
        self._clock: Any = clock
        self._notes = TokenBucket(rate_per_s=1.0, burst=20.0)

    def buildProtocol(self, addr: IAddress) -> CheckedTls | None:  # type: ignore[override]
        behind = self.wrappedFactory.buildProtocol(addr)
        return None if behind is None else self.protocol(self, behind)

    def note(self, host: str, what: str) -> None:
        """Write down what a stranger did wrong, unless many do."""
        if self._notes.take(self._clock.seconds()):
            log.warn("{host}: {what}", host=host, what=what)


def peer_fingerprint(transport: Any) -> str | None:
    """SHA-256 of the certificate that the other side has shown, and has the key of; None if it has shown none."""
    if not isinstance(transport, TLSMemoryBIOProtocol) or transport._tlsConnection is None:
        return None
    certificate = transport.getPeerCertificate()
    if certificate is None:
        return None
    return sha256(certificate.to_cryptography().public_bytes(Encoding.DER)).hexdigest()


def _in_words(error: BaseException) -> str:
    """What OpenSSL says, without its brackets."""
    reasons = error.args[0] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(str(each[-1]) for each in reasons if each) or type(error).__name__
