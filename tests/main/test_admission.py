"""Who is let in by TLS, seen from outside: real sockets to both ports of a main in this process."""

from __future__ import annotations

import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.join_string import JoinString, read_join_string
from retirecluster.main import peer as peers
from retirecluster.main.certificates import Authority
from retirecluster.tls import Identity, TlsEndpoint, TlsError, ca_hash
from retirecluster.wire.messages import MESSAGES
from retirecluster.wire.session import BEFORE_AUTH
from tests.support import LinePeer, connect, pause

INFO = {"device_info": {"hostname": "h", "platform": "linux", "architecture": "x86_64", "python_version": "3.11"}}
NONCE, OTHER_NONCE = "n" * 32, "o" * 32


@frozen
class Device:
    """What a device has after joining."""

    device_id: str
    identity: Identity
    waiting: bool


async def call(node: Any, identity: Identity | None = None) -> LinePeer:
    """A connection by TLS to the port for workers, greeted."""
    context = (identity or Identity(node.rooms.admission.authority.pem)).context()
    endpoint = TlsEndpoint(reactor, HostnameEndpoint(reactor, "127.0.0.1", node.worker_port), context)
    peer: Any = await endpoint.connect(Factory.forProtocol(LinePeer))
    greeting = await peer.expect("connection_ack")
    assert greeting["data"]["auth"] == "required"
    return peer


async def join_string(node: Any, role: str = "", name: str = "", ttl_s: float = 900.0) -> JoinString:
    made = await node.rooms.admission.create(role, name, ttl_s)
    return read_join_string(made["join_string"])


async def ask_to_join(
    node: Any, found: JoinString, device_id: str, nonce: str = NONCE, identity: Identity | None = None
) -> dict[str, Any]:
    peer = await call(node, identity)
    peer.say("join", {"secret": found.secret, "device_id": device_id, "nonce": nonce})
    while True:
        message = await peer.received.get().addTimeout(10, reactor)
        if message["message_type"] in ("join_ack", "error"):
            await peer.leave()
            return message


async def joined(node: Any, folder: Path, device_id: str, **more: Any) -> Device:
    """A device that has joined."""
    answer = await ask_to_join(node, await join_string(node, **more), device_id)
    assert answer["message_type"] == "join_ack", answer
    data = answer["data"]
    return Device(data["device_id"], kept(node, folder, data), data["waiting"])


def kept(node: Any, folder: Path, data: dict[str, Any]) -> Identity:
    path = folder / f"{data['device_id']}-{len(list(folder.glob('*.pem')))}.pem"
    path.write_text(data["key"] + data["certificate"])
    return Identity(node.rooms.admission.authority.pem, path)


async def register(node: Any, device: Device, sender_id: str = "") -> tuple[LinePeer, dict[str, Any]]:
    """A connection of the device, and what its registration was answered with."""
    peer = await call(node, device.identity)
    peer.say("register", INFO, sender_id=sender_id or device.device_id)
    while True:
        message = await peer.received.get().addTimeout(10, reactor)
        if message["message_type"] in ("register_ack", "error"):
            return peer, message


def code(message: dict[str, Any]) -> str:
    assert message["message_type"] == "error", message
    return message["data"]["code"]


@pytest.fixture
def secured(make_node: Any) -> Any:
    return make_node(tls="on")


# -- the authority


def test_the_authority_is_for_its_owner_alone(secured: Any, tmp_path: Path) -> None:
    folder = tmp_path / "main" / "tls"
    modes = {each.name: oct(each.stat().st_mode & 0o777) for each in (folder, *folder.iterdir())}
    assert modes == {"tls": "0o700", "ca.key": "0o600", "main.key": "0o600", "ca.crt": "0o644", "main.crt": "0o644"}
    certificate = secured.rooms.admission.authority.main_certificate()
    assert certificate.not_valid_before_utc.year == 2000 and certificate.not_valid_after_utc.year == 9999


@pytest_twisted.ensureDeferred
async def test_another_start_has_the_same_authority(make_node: Any) -> None:
    node = make_node(tls="on")
    before = node.rooms.admission.authority.hash
    await node.stopService()
    assert make_node(tls="on").rooms.admission.authority.hash == before


@pytest.mark.parametrize("name", ["ca.key", "ca.crt"])
def test_a_damaged_authority_is_said(tmp_path: Path, name: str) -> None:
    Authority.open(tmp_path)
    (tmp_path / "tls" / name).write_text("-----BEGIN NOTHING-----")
    with pytest.raises(ClusterError, match="the authority cannot be used"):
        Authority.open(tmp_path)


@pytest_twisted.ensureDeferred
async def test_renewing_changes_what_is_shown_and_no_pin(secured: Any, tmp_path: Path) -> None:
    device = await joined(secured, tmp_path, "one")
    before = secured.rooms.admission.authority_document()
    old, _ = await register(secured, device)
    after = await secured.rooms.admission.renew()
    assert before["main_sha256"] != after["main_sha256"] and before["ca_sha256"] == after["ca_sha256"]
    old.say("ping")
    await old.expect("pong")
    shown = await deferToThread(_shown, secured.web_port)
    assert ca_hash(shown) == after["main_sha256"]
    await old.leave()


def _shown(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)


# -- joining


@pytest_twisted.ensureDeferred
async def test_a_device_joins_and_registers(secured: Any, tmp_path: Path) -> None:
    device = await joined(secured, tmp_path, "one", role="mobile")
    peer, answer = await register(secured, device)
    assert answer["message_type"] == "register_ack" and answer["data"]["device_id"] == "one"
    assert secured.rooms.cluster.device("one")["role"] == "mobile"
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_a_name_in_the_join_string_is_the_device_s(secured: Any, tmp_path: Path) -> None:
    device = await joined(secured, tmp_path, "called-so-by-itself", name="shelf-1")
    assert device.device_id == "shelf-1"


@pytest_twisted.ensureDeferred
async def test_of_many_at_once_one_is_let_in(secured: Any) -> None:
    found = await join_string(secured)
    asking = [ensureDeferred(ask_to_join(secured, found, f"d{n}", f"{n}" * 32)) for n in range(8)]
    answers = await gatherResults(asking)
    assert sorted(each["message_type"] for each in answers) == ["error"] * 7 + ["join_ack"]
    assert {code(each) for each in answers if each["message_type"] == "error"} == {"unauthorized"}
    assert len(secured.rooms.admission.documents()) == 1


@pytest_twisted.ensureDeferred
async def test_who_was_not_told_may_ask_again_and_nobody_else(secured: Any, tmp_path: Path) -> None:
    """The main may die, or the line break, between issuing and answering: the device asks once more."""
    found = await join_string(secured)
    lost = await ask_to_join(secured, found, "one")
    again = await ask_to_join(secured, found, "one")
    assert again["message_type"] == "join_ack"
    assert code(await ask_to_join(secured, found, "one", OTHER_NONCE)) == "unauthorized"
    first = Device("one", kept(secured, tmp_path, lost["data"]), False)
    second = Device("one", kept(secured, tmp_path, again["data"]), False)
    peer, answer = await register(secured, first)
    assert code(answer) == "forbidden"
    await peer.closed
    peer, answer = await register(secured, second)
    assert answer["message_type"] == "register_ack"
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_asking_again_holds_over_a_restart(make_node: Any) -> None:
    node = make_node(tls="on")
    found = await join_string(node)
    await ask_to_join(node, found, "one")
    await node.stopService()
    node = make_node(tls="on")
    assert (await ask_to_join(node, found, "one"))["message_type"] == "join_ack"
    assert code(await ask_to_join(node, found, "two", OTHER_NONCE)) == "unauthorized"


@pytest_twisted.ensureDeferred
async def test_an_expired_secret_is_none(secured: Any) -> None:
    found = await join_string(secured, ttl_s=0.05)
    await pause(0.1)
    answer = await ask_to_join(secured, found, "one")
    assert code(answer) == "unauthorized" and "expired" in answer["data"]["message"]


@pytest_twisted.ensureDeferred
async def test_a_guessed_secret_is_none(secured: Any) -> None:
    found = JoinString((), 1, "", "g" * 43)
    assert code(await ask_to_join(secured, found, "one")) == "unauthorized"


@pytest_twisted.ensureDeferred
async def test_nobody_joins_by_the_name_of_another(secured: Any, tmp_path: Path) -> None:
    device = await joined(secured, tmp_path, "one")
    found = await join_string(secured)
    answer = await ask_to_join(secured, found, "one", OTHER_NONCE)
    assert code(answer) == "conflict" and "devices revoke one" in answer["data"]["message"]
    # The device itself may, with its key; and the secret was not used up by who may not.
    answer = await ask_to_join(secured, found, "one", OTHER_NONCE, device.identity)
    assert answer["message_type"] == "join_ack"


@pytest_twisted.ensureDeferred
async def test_secrets_are_kept_as_hashes_alone(secured: Any, tmp_path: Path) -> None:
    found = await join_string(secured)
    answer = await ask_to_join(secured, found, "one")
    await secured.stopService()
    everything = b"".join(each.read_bytes() for each in (tmp_path / "main").rglob("*") if each.is_file())
    assert found.secret.encode() not in everything and NONCE.encode() not in everything
    assert answer["data"]["key"].splitlines()[2].encode() not in everything  # the first line is the same in every key


# -- registering


@pytest_twisted.ensureDeferred
async def test_a_device_is_nobody_else(secured: Any, tmp_path: Path) -> None:
    one, two = await joined(secured, tmp_path, "one"), await joined(secured, tmp_path, "two")
    peer, answer = await register(secured, one, sender_id="two")
    assert code(answer) == "forbidden" and answer["data"]["field"] == "sender_id"
    await peer.closed
    peer, answer = await register(secured, two)
    assert answer["message_type"] == "register_ack"
    peer.say("heartbeat", {"status": "paused"}, sender_id="one")
    await peer.expect("heartbeat_ack")
    with pytest.raises(ClusterError):
        secured.rooms.cluster.device("one")
    await peer.leave()


def _example(name: str) -> dict[str, Any]:
    return {"message_type": name, "sender_id": "one", "message_id": "m", "data": {}}


@pytest.mark.parametrize("name", [*(each for each in MESSAGES if each not in BEFORE_AUTH), "nothing_of_that_name"])
@pytest_twisted.ensureDeferred
async def test_a_stranger_is_understood_in_few_words(secured: Any, name: str) -> None:
    """One error for all else, whatever is in it: nothing is to be learnt from the answers."""
    peer = await call(secured)
    peer.send(json.dumps(_example(name)).encode() + b"\n")
    peer.send(json.dumps(_example(name) | {"data": {"auth": {"token": "guess"}}}).encode() + b"\n")
    for _ in range(2):
        answer = await peer.expect("error")
        assert answer["data"]["code"] == "unauthorized" and name not in answer["data"]["message"].split()
    peer.say("ping")
    await peer.expect("pong")
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_without_a_certificate_nobody_registers(secured: Any) -> None:
    peer = await call(secured)
    peer.say("register", INFO, sender_id="one")
    assert code(await peer.expect("error")) == "unauthorized"
    await peer.closed
    assert not secured.rooms.cluster.devices()


@pytest_twisted.ensureDeferred
async def test_a_certificate_of_another_authority_is_not_talked_to(secured: Any, tmp_path: Path) -> None:
    other = Authority.open(tmp_path)
    issued = other.issue_device("one")
    (tmp_path / "one.pem").write_text(issued.key + issued.certificate)
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", secured.worker_port)
    context = Identity(secured.rooms.admission.authority.pem, tmp_path / "one.pem").context()
    try:
        peer: Any = await TlsEndpoint(reactor, endpoint, context).connect(Factory.forProtocol(LinePeer))
        await peer.closed
        assert not peer.received.pending
    except TlsError:
        pass  # with TLS 1.2 the handshake itself fails


@pytest_twisted.ensureDeferred
async def test_an_unknown_certificate_of_the_authority_is_a_stranger_s(secured: Any, tmp_path: Path) -> None:
    """As after the restore of an older backup: what the database does not know is not let in."""
    issued = secured.rooms.admission.authority.issue_device("one")
    (tmp_path / "one.pem").write_text(issued.key + issued.certificate)
    identity = Identity(secured.rooms.admission.authority.pem, tmp_path / "one.pem")
    peer, answer = await register(secured, Device("one", identity, False))
    assert code(answer) == "unauthorized"
    await peer.closed


# -- approving and revoking


@pytest_twisted.ensureDeferred
async def test_revoking_ends_the_session_and_keeps_it_out(make_node: Any, tmp_path: Path) -> None:
    node = make_node(tls="on")
    device = await joined(node, tmp_path, "one")
    peer, _ = await register(node, device)
    await node.rooms.admission.revoke("one")
    assert code(await peer.expect("error")) == "forbidden"
    await peer.closed.addTimeout(1.0, reactor)
    assert "one" not in node.rooms.registry.sessions
    for _ in range(2):  # now, and after a restart
        peer, answer = await register(node, device)
        assert code(answer) == "forbidden" and "revoked" in answer["data"]["message"]
        await peer.closed
        await node.stopService()
        node = make_node(tls="on")


@pytest_twisted.ensureDeferred
async def test_a_revoked_device_may_join_anew(secured: Any, tmp_path: Path) -> None:
    stolen = await joined(secured, tmp_path, "one")
    await secured.rooms.admission.revoke("one")
    fresh = await joined(secured, tmp_path, "one")
    peer, answer = await register(secured, fresh)
    assert answer["message_type"] == "register_ack"
    thief, refused = await register(secured, stolen)
    assert code(refused) == "forbidden"
    await thief.closed
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_the_session_s_token_for_files_ends_with_it(secured: Any, tmp_path: Path) -> None:
    device = await joined(secured, tmp_path, "one")
    peer, answer = await register(secured, device)
    tokens = secured.rooms.files.tokens
    token = answer["data"]["files"]["token"]
    assert tokens.device_of(token) == "one"
    await secured.rooms.admission.revoke("one")
    assert tokens.device_of(token) is None
    await peer.closed


@pytest_twisted.ensureDeferred
async def test_where_a_person_has_to_approve(make_node: Any, tmp_path: Path) -> None:
    node = make_node(tls="on", approve_devices=True)
    device = await joined(node, tmp_path, "one")
    assert device.waiting
    peer, answer = await register(node, device)
    assert code(answer) == "forbidden" and "devices approve one" in answer["data"]["message"]
    await peer.closed
    await node.rooms.admission.approve("one")
    peer, answer = await register(node, device)
    assert answer["message_type"] == "register_ack"
    await peer.leave()
    with pytest.raises(ClusterError, match="does not wait"):
        await node.rooms.admission.approve("one")
    with pytest.raises(ClusterError, match="no device nobody"):
        await node.rooms.admission.revoke("nobody")


@pytest_twisted.ensureDeferred
async def test_what_people_do_is_in_the_audit_trail(secured: Any, tmp_path: Path) -> None:
    await joined(secured, tmp_path, "one")
    await secured.rooms.admission.revoke("one")
    rows, _ = await secured.rooms.cluster.audit_trail(None, "", "", 50)
    assert [each["action"] for each in rows][:3] == ["device.revoke", "device.join", "join_token.create"]


# -- plain and TLS


@pytest.mark.parametrize("first", [b"\n", b'{"message_type":"ping"}\n', b"GET / HTTP/1.1\r\n", b"\0\0\0\0"])
@pytest_twisted.ensureDeferred
async def test_plain_bytes_are_answered_in_the_clear_and_ended(secured: Any, first: bytes) -> None:
    peer: Any = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", secured.worker_port), LinePeer())
    peer.send(first)
    answer = await peer.expect("error", 2.0)
    assert "join string" in answer["data"]["message"]
    await peer.closed.addTimeout(2.0, reactor)


@pytest_twisted.ensureDeferred
async def test_plain_http_to_https_is_told_so(secured: Any) -> None:
    answer = await deferToThread(_spoken, secured.web_port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ") and b"https" in answer


def _spoken(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(data)
        found = b""
        while more := connection.recv(4096):
            found += more
        return found


@pytest_twisted.ensureDeferred
async def test_tls_to_plain_ends_at_once(node: Any, tmp_path: Path) -> None:
    context = Identity(Authority.open(tmp_path).pem).context()
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", node.worker_port)
    with pytest.raises(TlsError, match="does not speak TLS"):
        await TlsEndpoint(reactor, endpoint, context).connect(Factory.forProtocol(LinePeer))
    endpoint = HostnameEndpoint(reactor, "127.0.0.1", node.web_port)
    connecting = TlsEndpoint(reactor, endpoint, context).connect(Factory.forProtocol(LinePeer))
    with pytest.raises((TlsError, ConnectionLost)):
        await connecting.addTimeout(2.0, reactor)


@pytest_twisted.ensureDeferred
async def test_a_refused_body_gets_its_answer_through_tls(secured: Any) -> None:
    request = b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 209715200\r\n\r\n" + b"x" * 50_000
    answer = await deferToThread(_secured_spoken, secured.web_port, request)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ") and json.loads(body)["error_code"] == "too_large"


def _secured_spoken(port: int, data: bytes) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), 10) as plain, context.wrap_socket(plain) as secure:
        secure.sendall(data)
        found = b""
        while more := secure.recv(4096):
            found += more
        return found


@pytest_twisted.ensureDeferred
async def test_a_plain_main_needs_no_join(node: Any) -> None:
    peer = await connect(node.worker_port)
    peer.say("join", {"secret": "s" * 43, "device_id": "one", "nonce": NONCE})
    answer = await peer.expect("error")
    assert answer["data"]["code"] == "conflict" and "without TLS" in answer["data"]["message"]
    await peer.leave()


@pytest_twisted.ensureDeferred
async def test_half_a_hello_is_not_held_for_ever(secured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "REGISTER_WITHIN_S", 0.2)
    monkeypatch.setattr(peers, "CLOSE_WITHIN_S", 0.2)
    held = [await _tcp(secured.worker_port) for _ in range(20)]
    for number, each in enumerate(held):
        each.send(b"\x16\x03\x01\x02\x00\x01\x00"[: number % 8])
    for each in held:
        await each.closed.addTimeout(5.0, reactor)
    assert not secured.rooms.server.limits.open


@pytest_twisted.ensureDeferred
async def test_pings_do_not_prolong_a_stranger_s_stay(secured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "REGISTER_WITHIN_S", 0.3)
    peer = await call(secured)
    for _ in range(100):
        if peer.closed.called:
            return
        peer.say("ping")
        await pause(0.05)
    raise AssertionError("a stranger is still there")


async def _tcp(port: int) -> LinePeer:
    peer: LinePeer = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), LinePeer())
    return peer


@pytest_twisted.ensureDeferred
async def test_connections_over_the_cap_are_closed(make_node: Any) -> None:
    node = make_node(tls="on", max_connections_per_peer=3)
    held = [await _tcp(node.worker_port) for _ in range(3)]
    await pause(0.05)
    more = await _tcp(node.worker_port)
    await more.closed.addTimeout(5.0, reactor)
    for each in held:
        await each.leave()
    await pause(0.05)
    await (await call(node)).leave()


# -- what the settings mean


@pytest.mark.parametrize(
    ("settings", "encrypted"),
    [
        ({}, False),
        ({"host": "127.0.0.1", "tls": "on"}, True),
        ({"host": "0.0.0.0"}, True),
        ({"host": "192.168.1.5", "tls": "auto"}, True),
        ({"host": "0.0.0.0", "trusted_network": True}, False),
        ({"host": "0.0.0.0", "trusted_network": True, "tls": "off"}, False),
    ],
)
def test_when_tls_is_spoken(tmp_path: Path, settings: dict[str, Any], encrypted: bool) -> None:
    from retirecluster.main.service import check_exposure, wants_tls
    from tests.support import main_settings

    found = main_settings(tmp_path, **settings)
    check_exposure(found)
    assert wants_tls(found) is encrypted


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0", "tls": "off"}, {"tls": "on", "trusted_network": True}])
def test_what_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    from retirecluster.main.service import check_exposure
    from tests.support import main_settings

    with pytest.raises(ClusterError, match="trusted_network"):
        check_exposure(main_settings(tmp_path, **settings))
