"""TLS by the standard library under Twisted: whatever the pieces that bytes come in, and however connections end."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from retirecluster import tls
from retirecluster.main.certificates import Authority, Issued, _pem
from retirecluster.tls import Identity, NotTlsError, PinError, TlsConnection, TlsEndpoint, TlsError, ca_hash
from tests.tls_server import Server, server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority.open(tmp_path_factory.mktemp("authority"))
    made.issue_main([])
    return made


class Upper(Protocol):
    """The protocol above TLS: keeps what comes, and how it ended."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.pauses = self.resumes = 0
        self.lost: Deferred[Failure] = Deferred()
        self.wanted = 0
        self.enough: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        if self.wanted and len(self.data) >= self.wanted and not self.enough.called:
            self.enough.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.value)

    def pauseProducing(self) -> None:
        self.pauses += 1

    def resumeProducing(self) -> None:
        self.resumes += 1

    def stopProducing(self) -> None: ...


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(function: Callable[[socket.socket], None]) -> Server:
        made.append(Server(function))
        return made[-1]

    yield start
    for each in made:
        each.close()


async def connect(port: int, context: ssl.SSLContext, upper: Upper | None = None) -> Upper:
    upper = upper or Upper()
    endpoint = TlsEndpoint(reactor, HostnameEndpoint(reactor, "127.0.0.1", port), context)
    found = await endpoint.connect(Factory.forProtocol(lambda: upper))
    assert found is upper
    return upper


# -- in memory: every way to cut the bytes


class Memory:
    """Both ends in memory. What one has written lies in `to_server` and `to_client` until it is carried over."""

    def __init__(self, authority: Authority) -> None:
        self.upper, self.ready = Upper(), Deferred[Any]()
        self.transport = StringTransport()
        self.client = TlsConnection(Identity(authority.pem).context(), self.upper, self.ready)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = server_context(authority).wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.heard = bytearray()
        self.shaken = False
        self.client.makeConnection(self.transport)

    def server_turn(self) -> None:
        self.incoming.write(self.transport.value())
        self.transport.clear()
        try:
            if not self.shaken:
                self.server.do_handshake()
                self.shaken = True
            while data := self.server.read(65_536):
                self.heard += data
        except ssl.SSLWantReadError:
            return

    def shake_hands(self, cut: Callable[[bytes], list[bytes]]) -> None:
        for _ in range(8):
            self.server_turn()
            self.carry(cut)

    def carry(self, cut: Callable[[bytes], list[bytes]]) -> None:
        for piece in cut(self.outgoing.read()):
            self.client.dataReceived(piece)


def in_pieces(sizes: list[int]) -> Callable[[bytes], list[bytes]]:
    def cut(data: bytes) -> list[bytes]:
        pieces, number = [], 0
        while data:
            size = sizes[number % len(sizes)]
            pieces.append(data[:size])
            data, number = data[size:], number + 1
        return pieces

    return cut


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 4000), min_size=1, max_size=6),
    said=st.lists(st.binary(max_size=40_000), max_size=6),
    answered=st.lists(st.binary(max_size=40_000), max_size=6),
)
def test_whatever_pieces_bytes_come_in(
    authority: Authority, sizes: list[int], said: list[bytes], answered: list[bytes]
) -> None:
    memory, cut = Memory(authority), in_pieces(sizes)
    memory.shake_hands(cut)
    assert memory.ready.called and memory.upper.transport is memory.client
    for number in range(max(len(said), len(answered))):
        for piece in said[number : number + 1]:
            memory.client.write(piece)
        for piece in answered[number : number + 1]:
            if piece:
                memory.server.write(piece)
        memory.server_turn()
        memory.carry(cut)
    assert bytes(memory.heard) == b"".join(said)
    assert bytes(memory.upper.data) == b"".join(answered)


def test_nothing_is_handed_on_in_a_pause(authority: Authority) -> None:
    memory = Memory(authority)
    memory.shake_hands(in_pieces([100_000]))
    memory.client.pauseProducing()
    assert memory.transport.producerState == "paused"
    memory.server.write(b"x" * 100_000)
    memory.carry(in_pieces([1000]))
    assert not memory.upper.data
    memory.client.resumeProducing()
    assert memory.transport.producerState == "producing"
    assert len(memory.upper.data) == 100_000


def test_a_full_socket_pauses_who_writes(authority: Authority) -> None:
    memory = Memory(authority)
    memory.shake_hands(in_pieces([100_000]))
    valve: Any = memory.transport.producer
    memory.client.registerProducer(memory.upper, True)
    valve.pauseProducing()
    valve.resumeProducing()
    assert (memory.upper.pauses, memory.upper.resumes) == (1, 1)
    memory.client.unregisterProducer()
    valve.pauseProducing()
    memory.client.registerProducer(memory.upper, True)
    assert memory.upper.pauses == 2, "who begins while the socket is full is told"


def test_closing_waits_for_who_still_writes(authority: Authority) -> None:
    memory = Memory(authority)
    memory.shake_hands(in_pieces([100_000]))
    memory.client.registerProducer(memory.upper, True)
    memory.client.loseConnection()
    assert not memory.transport.disconnecting
    memory.client.write(b"last words")
    memory.client.unregisterProducer()
    assert memory.transport.disconnecting
    memory.server_turn()
    assert bytes(memory.heard) == b"last words"
    memory.client.write(b"too late")
    memory.server_turn()
    assert bytes(memory.heard) == b"last words"


def test_an_end_without_a_word_is_a_loss(authority: Authority) -> None:
    """A cable that is cut, or somebody in between who wants to have the half of an answer taken for the whole."""
    memory = Memory(authority)
    memory.shake_hands(in_pieces([100_000]))
    memory.client.connectionLost(Failure(ConnectionDone()))
    lost: Any = memory.upper.lost.result
    assert isinstance(lost, ConnectionLost)


def test_an_end_with_its_word_is_none(authority: Authority) -> None:
    memory = Memory(authority)
    memory.shake_hands(in_pieces([100_000]))
    memory.server.write(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        memory.server.unwrap()
    memory.carry(in_pieces([7]))
    assert memory.transport.disconnecting
    memory.client.connectionLost(Failure(ConnectionDone()))
    lost: Any = memory.upper.lost.result
    assert isinstance(lost, ConnectionDone) and bytes(memory.upper.data) == b"bye"


@given(garbage=st.binary(min_size=1, max_size=600), after=st.booleans())
def test_garbage_ends_the_connection_and_nothing_else(authority: Authority, garbage: bytes, after: bool) -> None:
    memory = Memory(authority)
    failed: list[Failure] = []
    memory.ready.addErrback(failed.append)
    if after:
        memory.shake_hands(in_pieces([100_000]))
    memory.client.dataReceived(garbage)
    memory.client.dataReceived(garbage)
    if not memory.transport.disconnecting:
        memory.client.connectionLost(Failure(ConnectionDone()))
    else:
        memory.client.connectionLost(Failure(ConnectionLost()))
    assert not memory.upper.data
    assert memory.upper.lost.called if after else isinstance(failed[0].value, TlsError)


def test_a_handshake_that_stands_still_is_given_up(authority: Authority) -> None:
    clock, made = Clock(), list[StringTransport]()

    class Silent:
        def connect(self, factory: Any) -> Deferred[Any]:
            connection = factory.buildProtocol(None)
            made.append(StringTransport())
            connection.makeConnection(made[0])
            found: Deferred[Any] = Deferred()
            found.callback(connection)
            made[0].abortConnection = lambda: connection.connectionLost(Failure(ConnectionAborted()))  # type: ignore
            return found

    endpoint = TlsEndpoint(clock, Silent(), Identity(authority.pem).context())  # type: ignore[arg-type]
    connecting, failed = endpoint.connect(Factory.forProtocol(Upper)), list[Failure]()
    connecting.addErrback(failed.append)
    clock.advance(tls.HANDSHAKE_WITHIN_S - 0.1)
    assert not failed
    clock.advance(0.2)
    assert isinstance(failed[0].value, TlsError) and "not done within" in str(failed[0].value)


# -- over sockets, against a TLS that is not ours


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest_twisted.ensureDeferred
async def test_much_goes_both_ways(authority: Authority, serve: Any, version: ssl.TLSVersion) -> None:
    size = 24 * 1024 * 1024

    def echo(connection: socket.socket) -> None:
        context = server_context(authority, minimum_version=version, maximum_version=version)
        with context.wrap_socket(connection, server_side=True) as secure:
            left = size
            while left:
                data = secure.recv(65_536)
                left -= len(data)
                secure.sendall(data)
            secure.unwrap()

    upper = Upper()
    upper.wanted = size
    server = serve(echo)
    await connect(server.port, Identity(authority.pem).context(), upper)
    sent = bytes(range(256)) * (size // 256)
    upper.transport.write(sent)
    await upper.enough
    assert upper.data == sent
    upper.transport.loseConnection()
    await upper.lost


@pytest_twisted.ensureDeferred
async def test_a_slow_reader_pauses_the_writer(authority: Authority, serve: Any) -> None:
    may_read, heard = threading.Event(), bytearray()

    def slow(connection: socket.socket) -> None:
        with server_context(authority).wrap_socket(connection, server_side=True) as secure:
            may_read.wait(20)
            while data := secure.recv(65_536):
                heard.extend(data)

    server = serve(slow)
    upper: Any = await connect(server.port, Identity(authority.pem).context())
    upper.transport.registerProducer(upper, True)
    written = 0
    while not upper.pauses:
        upper.transport.write(b"x" * 65_536)
        written += 65_536
        assert written < 64 * 1024 * 1024, "nobody told the writer to pause"
    may_read.set()
    upper.transport.unregisterProducer()
    upper.transport.loseConnection()
    await upper.lost
    server.close()
    assert len(heard) == written


@pytest_twisted.ensureDeferred
async def test_an_abrupt_end(authority: Authority, serve: Any) -> None:
    def reset(connection: socket.socket) -> None:
        secure = server_context(authority).wrap_socket(connection, server_side=True)
        secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        secure.close()

    server = serve(reset)
    upper: Any = await connect(server.port, Identity(authority.pem).context())
    lost = await upper.lost
    assert isinstance(lost, ConnectionLost)


@pytest_twisted.ensureDeferred
async def test_aborting_ends_at_once(authority: Authority, serve: Any) -> None:
    def hold(connection: socket.socket) -> None:
        with server_context(authority).wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    server = serve(hold)
    upper: Any = await connect(server.port, Identity(authority.pem).context())
    upper.transport.write(b"x" * 1_000_000)
    upper.transport.abortConnection()
    lost = await upper.lost
    assert isinstance(lost, ConnectionAborted)


def self_signed(folder: Path, authority: Authority) -> None:
    """Somebody's own certificate for the right name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, tls.SERVER_NAME)])
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(tls.SERVER_NAME)]), critical=False)
    _save(folder, key, _pem(builder.sign(key, hashes.SHA256())))


def expired(folder: Path, authority: Authority) -> None:
    """A certificate of the right authority for the right name, of long ago."""
    _issue(folder, authority, tls.SERVER_NAME, datetime.timedelta(days=-1))


def other_name(folder: Path, authority: Authority) -> None:
    _issue(folder, authority, "nas.example", datetime.timedelta(days=1))


def of_a_device(folder: Path, authority: Authority) -> None:
    """A device of this cluster that plays the main: its certificate is of the right authority."""
    issued: Issued = authority.issue_device(tls.SERVER_NAME)
    (folder / "main.crt").write_text(issued.certificate)
    (folder / "main.key").write_text(issued.key)


def _issue(folder: Path, authority: Authority, name: str, left: datetime.timedelta) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(authority.certificate.subject)
    builder = builder.public_key(key.public_key()).serial_number(2).not_valid_before(now - datetime.timedelta(days=9))
    builder = builder.not_valid_after(now + left)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
    _save(folder, key, _pem(builder.sign(authority._key, hashes.SHA256())))


def _save(folder: Path, key: ec.EllipticCurvePrivateKey, certificate: str) -> None:
    from retirecluster.main.certificates import _key_pem

    (folder / "main.crt").write_text(certificate)
    (folder / "main.key").write_text(_key_pem(key))


@pytest.mark.parametrize("make", [self_signed, expired, other_name, of_a_device])
@pytest_twisted.ensureDeferred
async def test_whoever_is_not_the_main_hears_nothing(
    authority: Authority, serve: Any, tmp_path: Path, make: Any
) -> None:
    heard: list[bytes] = []
    make(tmp_path, authority)

    def impostor(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "main.crt", tmp_path / "main.key")
        with context.wrap_socket(connection, server_side=True) as secure:
            heard.append(secure.recv(100))

    server = serve(impostor)
    with pytest.raises(PinError, match="not of the cluster"):
        await connect(server.port, Identity(authority.pem).context())
    server.close()
    assert not any(heard)


@pytest_twisted.ensureDeferred
async def test_what_does_not_speak_tls_is_said_to_be_that(authority: Authority, serve: Any) -> None:
    server = serve(lambda connection: connection.sendall(b'{"message_type":"connection_ack"}\n'))
    with pytest.raises(NotTlsError):
        await connect(server.port, Identity(authority.pem).context())


@pytest_twisted.ensureDeferred
async def test_old_versions_are_not_spoken(authority: Authority, serve: Any) -> None:
    def old(connection: socket.socket) -> None:
        context.wrap_socket(connection, server_side=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context = server_context(authority)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    server = serve(old)
    with pytest.raises(TlsError, match="version"):
        await connect(server.port, Identity(authority.pem).context())


def test_the_hash_is_that_of_the_certificate(authority: Authority) -> None:
    assert ca_hash(authority.pem) == authority.hash and len(authority.hash) == 64
    with pytest.raises(ValueError):
        ca_hash("nothing of that kind")
