"""I17: what is buffered for one connection, and the number of connections, are capped, whatever the peers do.

The main's own port and protocol, over connections in memory that are read slowly or not at all.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.tcp import Connection
from twisted.python.failure import Failure

from retirecluster.main import peer as peers
from retirecluster.main.limits import Limits
from retirecluster.main.peer import MainPeer
from retirecluster.wire.lines import JsonLines
from tests.store.simulation import SimulatedMain

TOTAL, PER_HOST = 5, 3
LINE_BYTES, UNSENT_BYTES, SYSTEM_BYTES = 2_000, 8_000, 1_000
"""As small as the test is; `SYSTEM_BYTES` is from where on a transport asks for a pause."""
CHUNK_BYTES = 1_500
BYTES = (b"{}\n", b"\n" * CHUNK_BYTES, b"x" * CHUNK_BYTES, b"[" * 900 + b"\n", b'{"a":"' + b"y" * 1400)
HOSTS = ("10.0.0.1", "10.0.0.2", "10.0.0.3")
GREETING = {"message_type": "register", "sender_id": "d", "data": {"device_info": {}, "hardware_specs": {}}}


class Pipe(Connection):
    """A TCP connection as the protocol sees it. What the other side has not read stays in `unsent`."""

    def __init__(self, protocol: MainPeer) -> None:  # nothing of a real one is set up
        self.protocol = protocol
        self.unsent = 0
        self.producer: Any = None
        self.closing = self.closed = False

    def setTcpNoDelay(self, enabled: bool) -> None: ...

    def setTcpKeepAlive(self, enabled: bool) -> None: ...

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self._close_if_sent()

    def write(self, data: bytes) -> None:
        if not self.closed and not self.closing:
            self.unsent += len(data)
            if self.unsent > SYSTEM_BYTES and self.producer is not None:
                self.producer.pauseProducing()

    def is_read(self) -> None:
        """The other side takes everything."""
        self.unsent = 0
        if self.producer is not None:
            self.producer.resumeProducing()
        self._close_if_sent()

    def loseConnection(self) -> None:
        self.closing = True
        self._close_if_sent()

    def _close_if_sent(self) -> None:
        if self.closing and not self.unsent and self.producer is None:
            self.abortConnection()

    def abortConnection(self) -> None:
        if not self.closed:
            self.closed, self.unsent = True, 0
            self.protocol.connectionLost(Failure(ConnectionDone()))


class Strangers(RuleBasedStateMachine):
    """Peers that open too many connections, send lines that never end, and read nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="bounds-"))
        caps = {"max_connections": TOTAL, "max_connections_per_peer": PER_HOST}
        self.main = SimulatedMain(self.folder / "life-0", 0.0, 1e9, **caps)
        self.pipes: list[tuple[str, Pipe]] = []
        self.names = 0

    def teardown(self) -> None:
        self.main.database.close()
        shutil.rmtree(self.folder)

    def open(self, host: str = "") -> list[Pipe]:
        return [pipe for each, pipe in self.pipes if not pipe.closed and host in ("", each)]

    @rule(host=st.sampled_from(HOSTS))
    def connects(self, host: str) -> None:
        room = len(self.open()) < TOTAL and len(self.open(host)) < PER_HOST
        protocol = self.main.rooms.server.buildProtocol(IPv4Address("TCP", host, 1))
        assert (protocol is not None) == room
        if protocol is not None:
            pipe = Pipe(protocol)
            self.pipes.append((host, pipe))
            protocol.makeConnection(pipe)

    def drawn(self, data: Any) -> Pipe:
        pipe: Pipe = data.draw(st.sampled_from(self.open()))
        return pipe

    @precondition(lambda self: self.open())
    @rule(
        data=st.data(),
        sent=st.one_of(st.binary(max_size=200), st.sampled_from(BYTES)),
        times=st.integers(1, 3),
    )
    def sends(self, data: Any, sent: bytes, times: int) -> None:
        pipe = self.drawn(data)
        for _ in range(times):
            if not pipe.closed and not pipe.closing:
                pipe.protocol.dataReceived(sent)
        self.main.settle()

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def registers(self, data: Any) -> None:
        pipe = self.drawn(data)
        self.names += 1
        if not pipe.closing:
            line = json.dumps(GREETING | {"sender_id": f"device-{self.names}"}).encode() + b"\n"
            pipe.protocol.dataReceived(line)
            self.main.settle()

    @precondition(lambda self: self.open())
    @rule(data=st.data(), chars=st.integers(1, 1_500), times=st.integers(1, 8))
    def is_told_much(self, data: Any, chars: int, times: int) -> None:
        pipe = self.drawn(data)
        for _ in range(times):
            pipe.protocol.tell("broadcast", {"message": "m" * chars})

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def reads(self, data: Any) -> None:
        self.drawn(data).is_read()

    @precondition(lambda self: self.open())
    @rule(data=st.data())
    def goes(self, data: Any) -> None:
        self.drawn(data).abortConnection()
        self.main.settle()

    @rule(seconds=st.sampled_from([0.1, 3.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.main.clock.advance(seconds)
        self.main.settle()

    @invariant()
    def connections_are_capped_and_counted(self) -> None:
        limits, server = self.main.rooms.server.limits, self.main.rooms.server
        assert len(self.open()) == len(server.peers) == limits.open.total() <= TOTAL
        for host in HOSTS:
            assert len(self.open(host)) == limits.open[host] <= PER_HOST
        assert set(self.main.rooms.registry.sessions.values()) <= server.peers, "a session outlived its connection"

    @invariant()
    def what_is_buffered_is_capped(self) -> None:
        for _, pipe in self.pipes:
            assert pipe.unsent <= SYSTEM_BYTES + UNSENT_BYTES + 2 * LINE_BYTES, "unsent"
            kept = sum(map(len, pipe.protocol._tail))
            assert kept <= LINE_BYTES + 1 + CHUNK_BYTES, "half a line"
            assert not (pipe.closed and kept), "what was half received outlives the connection"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MainPeer, "max_line_bytes", LINE_BYTES)
    monkeypatch.setattr(MainPeer, "max_unsent_bytes", UNSENT_BYTES)


def run(max_examples: int, phases: list[Phase]) -> None:
    chosen = settings(
        max_examples=max_examples,
        stateful_step_count=40,
        deadline=None,
        database=None,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Strangers, settings=chosen)


def test_nobody_can_make_the_main_keep_much() -> None:
    run(60, [Phase.generate, Phase.shrink])


def no_cap_on_connections(patch: pytest.MonkeyPatch) -> None:
    def enter(self: Limits, host: str) -> bool:
        self.open[host] += 1
        return True

    patch.setattr(Limits, "enter", enter)


def connections_that_end_are_not_counted_out(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Limits, "leave", lambda self, host: None)


def no_cap_on_what_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MainPeer, "max_unsent_bytes", 10**9)


def no_cap_on_lines(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MainPeer, "max_line_bytes", 10**9)


def what_is_half_received_is_kept(patch: pytest.MonkeyPatch) -> None:
    def lost(self: Any, reason: Any = None) -> None:
        self.dead = True

    patch.setattr(JsonLines, "connectionLost", lost)


@pytest.mark.parametrize(
    "mutation",
    [
        no_cap_on_connections,
        connections_that_end_are_not_counted_out,
        no_cap_on_what_waits,
        no_cap_on_lines,
        what_is_half_received_is_kept,
    ],
    ids=lambda mutation: mutation.__name__,
)
def test_each_bound_is_needed(mutation: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        run(500, [Phase.generate])


def test_who_says_nothing_and_reads_nothing_is_gone_in_time(tmp_path: Path) -> None:
    main = SimulatedMain(tmp_path / "life-0", 0.0, 1e9)
    protocol = main.rooms.server.buildProtocol(IPv4Address("TCP", "10.0.0.1", 1))
    assert protocol is not None
    pipe = Pipe(protocol)
    protocol.makeConnection(pipe)
    main.clock.advance(peers.REGISTER_WITHIN_S)
    assert not pipe.closed, "it has not read why"
    main.clock.advance(peers.CLOSE_WITHIN_S)
    assert pipe.closed and not main.rooms.server.peers
    main.database.close()
