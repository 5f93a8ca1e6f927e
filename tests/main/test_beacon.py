"""The beacon for real: a main that announces itself, and a discovery that hears it, over multicast on loopback.

Another main on the machine may be heard as well: everything here looks for its own cluster alone.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Collection
from pathlib import Path
from random import Random
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol

from retirecluster.domain.errors import ClusterError
from retirecluster.main.beacon import Beacon
from retirecluster.main.service import wants_beacon
from retirecluster.wire.beacon import GROUP, PORT, Announcement, Ear, write_announcement, write_question
from retirecluster.wire.multicast import interface_addresses
from retirecluster.worker.discovery import Discovery, FoundMain, chosen
from retirecluster.worker.home import Address, Home
from tests.support import main_settings, pause

LOOPBACK = ["127.0.0.1"]


def why_no_multicast() -> str:
    """Why a datagram to the group does not come back on loopback; empty if it does."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as says,
    ):
        hears.settimeout(5)
        try:
            hears.bind(("", 0))
            member = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton("127.0.0.1"))
            hears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            says.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            says.sendto(b"x", (GROUP, hears.getsockname()[1]))
            hears.recv(1)
        except OSError as error:
            return f"no multicast on loopback here: {error}"
    return ""


needs_multicast = pytest.mark.skipif(bool(why_no_multicast()), reason=why_no_multicast() or "it works")


@pytest.fixture
def beacon() -> Any:
    """`beacon(cluster_id, port)`: a beacon of a made-up main on loopback."""
    started: list[Beacon] = []

    def start(cluster_id: str, port: int = 8080) -> Beacon:
        said = Announcement(cluster_id, "test", "127.0.0.1", port, 5000)
        one = Beacon(reactor, said, lambda: LOOPBACK, Random(1))
        one.start()
        started.append(one)
        return one

    yield start
    for each in started:
        pytest_twisted.blockon(_stopped(each))


def _stopped(beacon: Beacon) -> Any:
    from twisted.internet.defer import ensureDeferred

    return ensureDeferred(beacon.stop())


def discovery(listen_s: float = 20.0) -> Discovery:
    return Discovery(reactor, lambda: LOOPBACK, listen_s)


@needs_multicast
@pytest_twisted.ensureDeferred
async def test_a_main_is_found_by_asking(beacon: Callable[..., Beacon]) -> None:
    beacon("asked-1", 18080)
    [found] = await discovery().find("asked-1")
    assert (found.where, found.name) == ("127.0.0.1:18080", "test")


@needs_multicast
@pytest_twisted.ensureDeferred
async def test_a_real_main_announces_what_it_is(make_node: Any) -> None:
    node = make_node(beacon=True, cluster_name="the attic")
    cluster_id = node.rooms.database.cluster_id
    [found] = await discovery().find(cluster_id)
    assert found == Announcement(cluster_id, "the attic", "127.0.0.1", node.worker_port, node.web_port)


@needs_multicast
@pytest_twisted.ensureDeferred
async def test_garbage_keeps_nobody_from_finding(beacon: Callable[..., Beacon]) -> None:
    """Both ports of the group are flooded with garbage and made-up clusters while the main is looked for."""
    flooded = beacon("flooded-1")
    fakes = [write_announcement(Announcement(f"fake-{n}", "x", "127.0.0.1", 1, 1)) for n in range(100)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
        flood.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        flood.setblocking(False)

        async def pour() -> None:
            for number in range(20):
                for size in (0, 1, 511, 512, 513, 1400):
                    flood.sendto(bytes([number]) * size, (GROUP, PORT))
                for fake in fakes:
                    flood.sendto(fake, (GROUP, PORT))
                await pause(0.01)

        await pour()
        looking = discovery(30.0)
        from twisted.internet.defer import ensureDeferred

        search = ensureDeferred(looking.find("flooded-1"))
        await pour()
        [found] = await search
    assert found == flooded.announcement


@needs_multicast
@pytest_twisted.ensureDeferred
async def test_answers_are_bounded_and_never_larger_than_questions(beacon: Callable[..., Beacon]) -> None:
    one = beacon("bounded-1")
    received: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        asks.setblocking(False)
        asks.bind(("127.0.0.1", 0))

        def read() -> None:
            while True:
                try:
                    received.append(asks.recv(2000))
                except BlockingIOError:
                    return

        assert one._group is not None
        host, port = asks.getsockname()
        for _ in range(500):
            one._received(write_question("bounded-1"), host, port)
        for question in (write_question("another"), write_question()[:-20], b"{}", b""):
            one._received(question, host, port)
        await pause(0.2)
        read()
    assert 0 < len(received) <= 60
    assert all(len(each) < len(write_question()) for each in received)


def test_the_beacon_is_on_where_a_main_can_be_reached(tmp_path: Path) -> None:
    assert not wants_beacon(main_settings(tmp_path))
    assert wants_beacon(main_settings(tmp_path, host="0.0.0.0"))
    assert not wants_beacon(main_settings(tmp_path, host="0.0.0.0", beacon=False))
    assert wants_beacon(main_settings(tmp_path, beacon=True))


def test_the_addresses_of_this_device() -> None:
    found = interface_addresses()
    assert found
    assert all(each == "" or socket.inet_aton(each) for each in found)


ONE = Announcement("c-1", "one", "10.0.0.1", 8080, 5000)
MOVED = Announcement("c-1", "one", "10.0.0.7", 8080, 5000)
TWO = Announcement("c-2", "two\u2028", "10.0.0.2", 8080, 5000)


def test_which_main_is_joined() -> None:
    assert chosen({"c-1": [ONE, MOVED]}, None) == [ONE, MOVED]
    assert chosen({"c-1": [ONE], "c-2": [TWO]}, "c-2") == [TWO]
    with pytest.raises(ClusterError, match=r"no main was heard .*instead of auto: HOST:PORT"):
        chosen({}, None)
    with pytest.raises(
        ClusterError, match=r"several clusters .*c-1\) at 10\.0\.0\.1:8080.*c-2.*instead of auto: 10\.0\.0\.1:8080"
    ):
        chosen({"c-1": [ONE], "c-2": [TWO]}, None)
    with pytest.raises(ClusterError, match=r"cluster c-3 was not heard, but .*c-1"):
        chosen({"c-1": [ONE]}, "c-3")


def test_names_from_the_network_cannot_play_with_the_terminal() -> None:
    assert "\u2028" not in str(TWO)


class Silent(Discovery):
    """A network on which a test says who is heard."""

    heard: Ear

    async def listen(self, wanted: str | None, stale: Collection[Address] = ()) -> Ear:
        return self.heard


def listening(factory: Factory) -> Any:
    return reactor.listenTCP(0, factory, interface="127.0.0.1")


@pytest_twisted.ensureDeferred
async def test_a_main_that_has_moved_is_found_by_its_cluster(tmp_path: Path) -> None:
    """The kept address is dead; of two mains that are announced, the one of this cluster is tried."""
    here, other = listening(Factory.forProtocol(Protocol)), listening(Factory.forProtocol(Protocol))
    home = Home(tmp_path / "cluster.json", auto=True)
    dead = listening(Factory.forProtocol(Protocol))
    home.joined("c-1", "127.0.0.1", dead.getHost().port)
    await dead.stopListening()
    network = Silent(reactor)
    network.heard = Ear()
    for name, port in (("c-2", other.getHost().port), ("c-1", here.getHost().port)):
        said = Announcement(name, name, "127.0.0.1", port, 5000)
        network.heard.hear(write_announcement(said), "127.0.0.1", 0.0)
    tried: list[int] = []

    def endpoint(at: Address) -> Any:
        tried.append(at.port)
        return TCP4ClientEndpoint(reactor, at.host, at.port)

    try:
        found = FoundMain(home, network, endpoint)
        protocol: Any = await found.connect(Factory.forProtocol(Protocol))
        assert tried == [dead_port(home), here.getHost().port]
        protocol.transport.abortConnection()
        network.heard = Ear()
        tried.clear()
        with pytest.raises(ConnectError):
            await found.connect(Factory.forProtocol(Protocol))
        assert tried == [dead_port(home)], "nobody is heard: it may be back where it was"
    finally:
        await here.stopListening()
        await other.stopListening()
        await pause(0)


@pytest_twisted.ensureDeferred
async def test_the_known_address_and_the_announced_ones_take_turns(tmp_path: Path) -> None:
    """All accept a connection and none lets this device in, until one does."""
    ports = [listening(Factory.forProtocol(Protocol)) for _ in range(3)]
    known, one, two = (each.getHost().port for each in ports)
    home = Home(tmp_path / "cluster.json", auto=True)
    home.joined("c-1", "127.0.0.1", known)
    network = Silent(reactor)
    network.heard = Ear("c-1")
    for port in (one, two):
        network.heard.hear(write_announcement(Announcement("c-1", "x", "127.0.0.1", port, 5000)), "127.0.0.1", 0.0)
    tried: list[int] = []

    def endpoint(at: Address) -> Any:
        tried.append(at.port)
        return TCP4ClientEndpoint(reactor, at.host, at.port)

    async def connects() -> None:
        protocol: Any = await FoundMain(home, network, endpoint).connect(Factory.forProtocol(Protocol))
        protocol.transport.abortConnection()

    try:
        for _ in range(6):
            await connects()
        assert tried == [known, one, known, two, known, one]
        home.joined("c-1", "127.0.0.1", two)
        await connects()
        assert tried[6:] == [two], "what has let it in is tried first"
    finally:
        for each in ports:
            await each.stopListening()
        await pause(0)


@needs_multicast
@pytest_twisted.ensureDeferred
async def test_where_only_stale_addresses_are_heard_it_goes_on_listening(beacon: Callable[..., Beacon]) -> None:
    """The second main speaks up after a while; the address of the first one has led to nothing before."""
    beacon("twice-1", 18081)
    later = reactor.callLater(1.2, beacon, "twice-1", 18082)
    found = await discovery().find("twice-1", [Address("127.0.0.1", 18081)])
    assert [each.port for each in found] == [18081, 18082]
    assert not later.active()


def dead_port(home: Home) -> int:
    assert home.address is not None
    return home.address.port


def test_home_is_the_cluster_that_was_joined_first(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    first = Home(path, auto=True)
    first.load()
    assert first.why_not("c-1") == ""
    first.joined("c-1", "fe80::1", 8080)
    again = Home(path, auto=True)
    again.load()
    assert (again.cluster_id, again.address) == ("c-1", Address("fe80::1", 8080))
    assert again.why_not("c-1") == ""
    assert "belongs to c-1" in again.why_not("c-2")
    named = Home(path, auto=False)
    named.load()
    assert named.why_not("c-2") == "", "an address that the owner names is joined, whosever it is"
    for damaged in ("", "{", "[]", '{"cluster_id": "a b", "address": "h:1"}', '{"cluster_id": "c", "address": "h:0"}'):
        path.write_text(damaged)
        broken = Home(path, auto=True)
        broken.load()
        assert (broken.cluster_id, broken.address) == (None, None)
