"""A whole main in memory: every room of it real, the clock and the lines to its devices in the hands of a test.

The database is a real file. Its transactions run in the one thread that there is, when the clock lets them.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.main.peer import MainPeer
from retirecluster.main.service import Rooms
from retirecluster.store import database as store
from retirecluster.store.folder import DataFolder
from retirecluster.store.writes import WriteSet, write_txn
from tests.support import main_settings

Message = dict[str, Any]
WHILE_WRITING = "while-writing"
"""A kill of a kind that failpoints do not know: everything decided has been handed to the disk, nothing is there."""
GATHERED_S = 0.004
"""Longer than turns wait for more to come."""


class InlineDatabase(store.Database):
    """The main's database without its threads: a call runs at the next turn of the clock."""

    def __init__(self, folder: Path, now: Moment, clock: Clock) -> None:
        files = DataFolder(folder)
        folder.mkdir(exist_ok=True)
        cluster_id, incarnation, mark = store._open_schema(files, now, lambda name: None)
        super().__init__(files.database, cluster_id, incarnation, None, None, -1, mark)  # type: ignore[arg-type]
        self.clock = clock
        self.connection = sqlite3.connect(files.database)
        store._prepare(self.connection)
        # What is under test is the order of things, not the disk: no waiting for it.
        self.connection.execute("PRAGMA synchronous = OFF")
        self.decided: Callable[[], None] = lambda: None
        self.written: Callable[[], None] = lambda: None

    def write(self, writes: WriteSet) -> Deferred[None]:
        self.decided()
        return self._later(self._put, writes)

    def _put(self, writes: WriteSet) -> None:
        self.written()
        self.mark.put(store._transaction(self.connection, write_txn, writes))

    def change(self, changing: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        return self._later(store._transaction, self.connection, changing, *arguments)

    def read(self, reading: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        return self._later(lambda: reading(self.connection.cursor(), *arguments))

    def _later(self, call: Callable[..., Any], *arguments: object) -> Deferred[Any]:
        waiting: Deferred[Any] = Deferred()
        self.clock.callLater(0, waiting.callback, None)
        return waiting.addCallback(lambda _: call(*arguments))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.connection.close()
            self.mark.close()


@define(eq=False)
class Link:
    """One connection, and what is under way on it. To the main's side of it, its transport.

    Either side may have given it up while the other knows nothing of that.
    """

    main: SimulatedMain
    device_id: str = ""
    peer: MainPeer = field(init=False)
    to_main: list[Message] = field(factory=list)
    to_worker: list[Message] = field(factory=list)
    open_at_main: bool = True
    open_at_worker: bool = True
    session_no: int | None = None
    """As the worker was told."""
    claims: dict[tuple[str, int], str] = field(factory=dict)
    disconnecting: bool = False

    # -- a transport, as far as `JsonLines` needs one

    def write(self, data: bytes) -> None:
        if not self.main.dead and self.open_at_main:
            message = json.loads(data)
            self.main.notes(self, message)
            if self.open_at_worker:
                self.to_worker.append(message)

    def registerProducer(self, producer: Any, streaming: bool) -> None: ...

    def unregisterProducer(self) -> None: ...

    def loseConnection(self) -> None:
        self.main.clock.callLater(0, self.lost_at_main)

    # -- what happens to it

    def lost_at_main(self, reason: type[Exception] = ConnectionDone) -> None:
        """The main notices the end."""
        if self.open_at_main:
            self.open_at_main = False
            self.peer.connectionLost(Failure(reason()))

    def reaches_main(self, message: Message) -> None:
        """A message arrives, in time or long after the end."""
        if not self.main.dead:
            self.peer.line_received(json.dumps(message).encode())

    @property
    def over(self) -> bool:
        """Nothing can come of it any more."""
        return not (self.open_at_main or self.open_at_worker or self.to_main or self.to_worker)


class SimulatedClock(Clock):
    """`task.Clock` for a main: what would run in a thread runs at once."""

    def pump(self) -> None:
        """Let everything run that is due."""
        self.advance(0)
        while self.calls and self.calls[0].getTime() <= self.rightNow:
            self.advance(0)


class SimulatedMain:
    """One life of a main. `told` hears every message that it sends; `dead` once it has been killed.

    `failures` found in a Deferred are raised when the test comes by.
    """

    def __init__(
        self,
        folder: Path,
        mono_s: float,
        wall_offset_s: float,
        told: Callable[[Link, Message], None] = lambda link, message: None,
        **more: Any,
    ) -> None:
        self.folder = folder
        self.told = told
        self.clock = SimulatedClock()
        self.clock.rightNow = mono_s
        self.wall_offset_s = wall_offset_s
        self.dead = False
        self.armed: str | None = None
        self.links: list[Link] = []
        self.failures: list[Failure] = []
        settings = main_settings(
            folder,
            lease_s=30.0,
            offline_after_s=30.0,
            heartbeat_interval_s=10.0,
            failover_grace_s=0.5,
            min_free_bytes=0,
            reserve_bytes=0,
            **more,
        )
        self.rooms = Rooms.build(
            settings,
            self.clock,
            self.fatal,
            self.moment,
            self.reached,
            open_database=lambda where, now, clock, reached: InlineDatabase(where, now, clock),
            random=Random(folder.name),
        )
        self.database.written = lambda: self.reached(WHILE_WRITING)
        self.rooms.heartbeat.start()
        self.rooms.turns.ask()

    @property
    def database(self) -> InlineDatabase:
        found = self.rooms.database
        assert isinstance(found, InlineDatabase)
        return found

    @property
    def scheduler(self) -> Scheduler:
        return self.rooms.scheduler

    def moment(self) -> Moment:
        mono_s = self.clock.seconds()
        return Moment(mono_s, max(1.0, mono_s + self.wall_offset_s))

    def notes(self, link: Link, message: Message) -> None:
        """It says something to a device. What the test finds wrong with that must not be caught by the main itself."""
        try:
            assert message["data"].get("code") != "internal", "a mistake of ours"
            self.told(link, message)
        except AssertionError:
            self.failures.append(Failure())

    def fatal(self, failure: Failure) -> None:
        if not self.dead:
            self.failures.append(failure)

    def reached(self, name: str) -> None:
        if name == self.armed and not self.dead:
            self.die()

    def die(self) -> None:
        """As by kill -9: what the files hold now is all that is left, whatever this process still does."""
        self.dead = True
        self.after = self.folder.with_name(f"life-{int(self.folder.name.split('-')[1]) + 1}")
        shutil.copytree(self.folder, self.after, ignore=shutil.ignore_patterns("*-shm", "lock"))

    def bury(self) -> Path:
        """Let go of what it had; the folder for the next life."""
        self.database.close()
        shutil.rmtree(self.folder)
        return self.after

    def connect(self, device_id: str) -> Link:
        """A new connection from that device, accepted."""
        link = Link(self, device_id)
        peer = self.rooms.server.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
        assert peer is not None
        link.peer = peer
        peer.makeConnection(link)
        self.links.append(link)
        return link

    def settle(self) -> None:
        """Let the main finish what it can without more time passing, give or take a few milliseconds."""
        self.clock.pump()
        self.clock.advance(GATHERED_S)
        self.clock.pump()
        for failure in self.failures:
            failure.raiseException()

    @property
    def quiet(self) -> bool:
        """Whether memory and disk should agree."""
        turns = self.rooms.turns
        return not turns.writing and turns._asked is None and self.scheduler.ledger.turn.empty

    def rows(self, query: str, *values: Any) -> list[Any]:
        return self.database.connection.execute(query, values).fetchall()


__all__ = ["ConnectionDone", "ConnectionLost", "InlineDatabase", "Link", "Message", "SimulatedMain", "succeed"]
