"""Says on the local network where this main is: now and then, and when asked. Nothing is told that opens a door."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define, field
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.beacon import (
    EVERY_S,
    JITTER_S,
    PORT,
    Announcement,
    Question,
    may_be_answered,
    read_datagram,
    write_announcement,
)
from retirecluster.wire.multicast import GroupPort
from retirecluster.wire.session import TokenBucket

FIRST_WITHIN_S = 1.0


@define(eq=False)
class Beacon:
    """Announces one main through the addresses that `interfaces` gives."""

    reactor: Any
    announcement: Announcement
    interfaces: Callable[[], list[str]]
    random: Random
    log = Logger()
    answers: TokenBucket = field(factory=lambda: TokenBucket(rate_per_s=10.0, burst=50.0))
    questions: TokenBucket = field(factory=lambda: TokenBucket(rate_per_s=50.0, burst=200.0))
    _group: GroupPort | None = field(default=None, init=False)
    _port: Any = field(default=None, init=False)
    _next: IDelayedCall | None = field(default=None, init=False)

    def start(self) -> None:
        """Listen and announce. A port that cannot be had costs the beacon and nothing else."""
        self._group = GroupPort(self._received, self.interfaces, member=True)
        try:
            self._port = self.reactor.listenMulticast(PORT, self._group, listenMultiple=True)
        except CannotListenError as error:
            self.log.warn("no beacon: UDP port {port} cannot be used: {why}", port=PORT, why=str(error.socketError))
            return
        self.log.info("beacon: {what}", what=str(self.announcement))
        self._next = self.reactor.callLater(self.random.uniform(0.0, FIRST_WITHIN_S), self._announce)

    async def stop(self) -> None:
        """Say nothing more."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        port, self._port = self._port, None
        if port is not None:
            await port.stopListening()

    def _announce(self) -> None:
        wait_s = EVERY_S + self.random.uniform(-JITTER_S, JITTER_S)
        self._next = self.reactor.callLater(wait_s, self._announce)
        assert self._group is not None
        self._group.tell_group(write_announcement(self.announcement))

    def _received(self, data: bytes, host: str, port: int) -> None:
        """Answer a question; what is none, or too much, is passed over in silence."""
        now = self.reactor.seconds()
        if not self.questions.take(now) or not may_be_answered(host):
            return
        try:
            said = read_datagram(data, host)
        except ClusterError:
            return
        asked = isinstance(said, Question) and said.means(self.announcement.cluster_id)
        if asked and self.answers.take(now) and self._group is not None:
            self._group.tell(write_announcement(self.announcement), host, port)
