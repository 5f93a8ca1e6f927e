"""Joining by a join string, against mains that are not what they seem: what is told to whom."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.protocol import Factory

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.join_string import JoinString
from retirecluster.main.certificates import Authority
from retirecluster.tls import NotTlsError, PinError, TlsEndpoint
from retirecluster.wire.beacon import Announcement
from retirecluster.worker.discovery import FoundMain
from retirecluster.worker.enrolling import enroll
from retirecluster.worker.home import Address, Home
from retirecluster.worker.keys import Keys
from retirecluster.worker.ways import Ways
from tests.support import LinePeer
from tests.tls_server import Server, server_context

SECRET = "s3cret" * 7


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return _authority(tmp_path / "ours")


def _authority(folder: Path) -> Authority:
    folder.mkdir()
    made = Authority.open(folder)
    made.issue_main([])
    return made


def string_of(authority: Authority, port: int, *hosts: str) -> JoinString:
    return JoinString(hosts or ("127.0.0.1",), port, authority.hash, SECRET)


class Main:
    """Answers as a main does, and keeps every byte that it was told: in the clear, and inside TLS."""

    def __init__(self, certificate: Authority, says_ca: str, issues: Authority | None = None) -> None:
        self.context = server_context(certificate)
        self.says_ca, self.issues = says_ca, issues
        self.told = bytearray()
        self.joins: list[dict[str, Any]] = []
        self.answers = True

    def __call__(self, connection: socket.socket) -> None:
        with self.context.wrap_socket(connection, server_side=True) as secure:
            limits = {"max_line_bytes": 1 << 20, "max_depth": 32, "register_within_s": 10}
            data = {"protocol_version": 1, "server_id": "c", "limits": limits, "auth": "required", "ca": self.says_ca}
            self._say(secure, "connection_ack", data)
            while more := secure.recv(65_536):
                self.told += more
                if b"\n" in more:
                    self._join(secure)

    def _join(self, secure: ssl.SSLSocket) -> None:
        self.joins.append(json.loads(self.told.splitlines()[-1])["data"])
        if not self.answers:
            raise OSError("the main dies here")
        assert self.issues is not None
        issued = self.issues.issue_device(self.joins[-1]["device_id"])
        data = {"certificate": issued.certificate, "key": issued.key, "waiting": False}
        self._say(secure, "join_ack", data | {"device_id": self.joins[-1]["device_id"]})

    @staticmethod
    def _say(secure: ssl.SSLSocket, name: str, data: dict[str, Any]) -> None:
        secure.sendall(json.dumps({"message_type": name, "sender_id": "main-node", "data": data}).encode() + b"\n")


@pytest.fixture
def serve() -> Iterator[Callable[[Any], Server]]:
    made: list[Server] = []

    def start(main: Any) -> Server:
        made.append(Server(main))
        return made[-1]

    yield start
    for each in made:
        each.close()


@pytest_twisted.ensureDeferred
async def test_joining_leaves_keys_for_their_owner_alone(authority: Authority, serve: Any, tmp_path: Path) -> None:
    main, keys = Main(authority, authority.pem, authority), Keys(tmp_path / "worker")
    done = await enroll(reactor, string_of(authority, serve(main).port), "one", keys)
    assert done.device_id == "one" and not done.waiting and keys.here
    modes = {each.name: oct(each.stat().st_mode & 0o777) for each in (keys.folder, *keys.folder.iterdir())}
    assert modes == {"tls": "0o700", "ca.crt": "0o600", "device.pem": "0o600"}
    assert keys.identity().ca == authority.pem


@pytest_twisted.ensureDeferred
async def test_with_another_authority_no_byte_is_sent(authority: Authority, serve: Any, tmp_path: Path) -> None:
    """Somebody answers at the main's address, with an authority of his own."""
    other = _authority(tmp_path / "other")
    main = Main(other, other.pem, other)
    with pytest.raises(ClusterError, match="nothing was sent"):
        await enroll(reactor, string_of(authority, serve(main).port), "one", Keys(tmp_path / "worker"))
    assert bytes(main.told) == b"" and not main.joins


@pytest_twisted.ensureDeferred
async def test_who_shows_the_right_authority_must_be_of_it(authority: Authority, serve: Any, tmp_path: Path) -> None:
    """The authority's certificate is no secret: anybody may show it, and have the right hash."""
    other = _authority(tmp_path / "other")
    main, keys = Main(other, authority.pem, other), Keys(tmp_path / "worker")
    with pytest.raises(ClusterError, match="not of the cluster"):
        await enroll(reactor, string_of(authority, serve(main).port), "one", keys)
    assert bytes(main.told) == b"" and not main.joins and not keys.here


@pytest.mark.parametrize("said", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "x" * 8000])
@pytest_twisted.ensureDeferred
async def test_what_is_no_certificate(authority: Authority, serve: Any, tmp_path: Path, said: str) -> None:
    main = Main(authority, said, authority)
    with pytest.raises(ClusterError):
        await enroll(reactor, string_of(authority, serve(main).port), "one", Keys(tmp_path / "worker"))
    assert bytes(main.told) == b""


@pytest_twisted.ensureDeferred
async def test_after_a_lost_answer_the_same_is_asked(authority: Authority, serve: Any, tmp_path: Path) -> None:
    """The main was killed before it answered; it knows by the nonce that it is the same device."""
    main, keys = Main(authority, authority.pem, authority), Keys(tmp_path / "worker")
    found = string_of(authority, serve(main).port)
    main.answers = False
    with pytest.raises(ClusterError, match="closed before the main had answered"):
        await enroll(reactor, found, "one", keys)
    assert not keys.here
    main.answers = True
    await enroll(reactor, found, "one", Keys(tmp_path / "worker"))
    assert main.joins[0] == main.joins[1] and len(main.joins) == 2


@pytest_twisted.ensureDeferred
async def test_the_first_address_that_answers_will_do(authority: Authority, serve: Any, tmp_path: Path) -> None:
    main = Main(authority, authority.pem, authority)
    found = string_of(authority, serve(main).port, "127.0.0.9", "127.0.0.1")
    done = await enroll(reactor, found, "one", Keys(tmp_path / "worker"))
    assert done.address.host == "127.0.0.1"


class PlainMain:
    """A main without TLS: says its greeting, and keeps what it is told."""

    def __init__(self) -> None:
        self.told = bytearray()

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(b'{"message_type":"connection_ack","sender_id":"main-node","data":{}}\n')
        while more := connection.recv(65_536):
            self.told += more


@pytest_twisted.ensureDeferred
async def test_a_plain_main_is_told_nothing(authority: Authority, serve: Any, tmp_path: Path) -> None:
    main = PlainMain()
    with pytest.raises(ClusterError, match="does not speak TLS"):
        await enroll(reactor, string_of(authority, serve(main).port), "one", Keys(tmp_path / "worker"))
    assert b"message_type" not in main.told and SECRET.encode() not in main.told


# -- the pin


def _joined(authority: Authority, folder: Path) -> Keys:
    keys, issued = Keys(folder), authority.issue_device("one")
    keys.keep(authority.pem, issued.certificate, issued.key)
    return keys


@pytest_twisted.ensureDeferred
async def test_who_has_joined_speaks_tls_to_whatever_address(authority: Authority, serve: Any, tmp_path: Path) -> None:
    ways, main = Ways(reactor, _joined(authority, tmp_path / "worker")), PlainMain()
    with pytest.raises(NotTlsError):
        await ways.to(Address("127.0.0.1", serve(main).port)).connect(Factory.forProtocol(LinePeer))
    assert b"message_type" not in main.told


@pytest_twisted.ensureDeferred
async def test_discovery_never_replaces_the_pin(authority: Authority, serve: Any, tmp_path: Path) -> None:
    """Everybody may announce the cluster's id. What answers there has to show the pinned authority all the same."""
    ways = Ways(reactor, _joined(authority, tmp_path / "worker"))
    other = _authority(tmp_path / "other")
    main = Main(other, authority.pem, other)
    port = serve(main).port

    class Heard:
        async def find(self, wanted: str | None, stale: Any = ()) -> list[Announcement]:
            return [Announcement("c", "main", "127.0.0.1", port, 5000)]

    home = Home(tmp_path / "cluster.json", auto=True)
    way = FoundMain(home, Heard(), ways.to)  # type: ignore[arg-type]
    with pytest.raises(ClusterError, match="not of the cluster"):
        await way.connect(Factory.forProtocol(LinePeer))
    assert bytes(main.told) == b""
    endpoint = ways.to(Address("127.0.0.1", port))
    assert isinstance(endpoint, TlsEndpoint)
    with pytest.raises(PinError):
        await endpoint.connect(Factory.forProtocol(LinePeer))


def test_damaged_keys_are_said(authority: Authority, tmp_path: Path) -> None:
    keys = _joined(authority, tmp_path / "worker")
    keys.key_file.write_text("nothing of that kind")
    with pytest.raises(ClusterError, match="join anew"):
        Ways(reactor, keys).to(Address("127.0.0.1", 1))
