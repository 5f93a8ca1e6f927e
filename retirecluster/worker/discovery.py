"""Finding a main on the local network: `--join auto`.

What is heard is a hint from strangers. It decides which address is tried, never whether what answers there is trusted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import CannotListenError, ConnectError, DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.beacon import PORT, Announcement, Ear, write_question
from retirecluster.wire.multicast import GroupPort, interface_addresses
from retirecluster.worker.home import Address, Home

LISTEN_S = 3.0
"""How long mains may take to answer, if it is not known which one is wanted."""
ASK_EVERY_S = 0.5
SHOWN = 8
UNREACHED = (ConnectError, ConnectionError, DNSLookupError)  # the second has what goes wrong in TLS, too


@define(eq=False)
class Discovery:
    """Asks the network where mains are."""

    reactor: Any
    interfaces: Callable[[], list[str]] = interface_addresses
    listen_s: float = LISTEN_S
    log = Logger()

    async def listen(self, wanted: str | None, stale: Collection[Address] = ()) -> Ear:
        """What is heard in `listen_s` seconds; no longer than until the wanted cluster has said an address that is not
        one of the `stale` ones."""
        ear = Ear(wanted)

        def answered() -> bool:
            said = ear.clusters().get(wanted, []) if wanted is not None else []
            return any(place(each) not in stale for each in said)

        def received(data: bytes, host: str, port: int) -> None:
            ear.hear(data, host, self.reactor.seconds())

        asking = GroupPort(received, self.interfaces, member=False)
        ports = [self.reactor.listenMulticast(0, asking)]
        try:
            # Announcements go to a port that other programs on this device may hold: answers come without it, too.
            hearing = GroupPort(received, self.interfaces, member=True)
            ports.append(self.reactor.listenMulticast(PORT, hearing, listenMultiple=True))
        except CannotListenError as error:
            self.log.info("announcements are not heard: {why}", why=str(error.socketError))
        try:
            until = self.reactor.seconds() + self.listen_s
            while self.reactor.seconds() < until and not answered():
                asking.tell_group(write_question(wanted))
                await deferLater(self.reactor, ASK_EVERY_S)
        finally:
            for each in ports:
                await each.stopListening()
        return ear

    async def find(self, wanted: str | None, stale: Collection[Address] = ()) -> list[Announcement]:
        """Where the wanted cluster's main is, or that of the one cluster there is; `stale` addresses are no reason to
        listen no longer. Raises ClusterError."""
        try:
            ear = await self.listen(wanted, stale)
        except CannotListenError as error:
            raise ClusterError("unreachable", f"no UDP port can be had: {error.socketError}") from None
        return chosen(ear.clusters(), wanted)


def place(said: Announcement) -> Address:
    """The announced address."""
    return Address(said.address, said.port)


def chosen(clusters: dict[str, list[Announcement]], wanted: str | None) -> list[Announcement]:
    """The announcements of the cluster to join. Raises ClusterError unreachable or ambiguous."""
    if wanted in clusters:
        return clusters[wanted]
    heard = listed(clusters)
    if not clusters:
        whose = "no main" if wanted is None else f"no main of cluster {wanted}"
        hint = "does one run here, beyond 127.0.0.1 or with its setting beacon?"
        words = f"{whose} was heard on this network; {hint} Else name its address instead of auto: HOST:PORT"
        raise ClusterError("unreachable", words)
    if wanted is not None:
        hint = "if it is another one that you mean: retire-cluster leave, then join ADDRESS"
        raise ClusterError("unreachable", f"cluster {wanted} was not heard, but {heard}; {hint}")
    if len(clusters) > 1:
        example = next(iter(clusters.values()))[0].where
        words = f"several clusters were heard: {heard}; name an address instead of auto: {example}"
        raise ClusterError("ambiguous", words)
    return next(iter(clusters.values()))


def listed(clusters: dict[str, list[Announcement]]) -> str:
    """What was heard, in words; shortened if it is much."""
    shown = [str(each) for found in clusters.values() for each in found[:2]]
    more = f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return "; ".join(shown[:SHOWN]) + more


@implementer(IStreamClientEndpoint)
@define(eq=False)
class FoundMain:
    """The main of this device's cluster, wherever it is: where it was last, or where the network says it is.

    Everybody may announce an address, and may be at the old one. Until a main has let this device in, the two ways take
    turns in going first, and of the announced addresses those that have led to nothing go last.
    """

    home: Home
    discovery: Discovery
    endpoint: Callable[[Address], IStreamClientEndpoint]
    log = Logger()

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the first address that answers."""
        return ensureDeferred(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        self.home.tries += 1
        if self.home.address is None:
            return await self._connect_found(factory)
        first, then = self._connect_known, self._connect_found
        if self.home.tries % 2 == 0:
            first, then = then, first
        try:
            return await first(factory)
        except ClusterError as error:
            self.log.error("{why}", why=error.message)
        except UNREACHED as error:
            self.log.info("the main is not at {known} any more: {why}", known=str(self.home.address), why=str(error))
        return await then(factory)

    async def _connect_known(self, factory: IProtocolFactory) -> IProtocol:
        assert self.home.address is not None
        return await self._try(self.home.address, factory)

    async def _connect_found(self, factory: IProtocolFactory) -> IProtocol:
        stale = [each for each in self.home.tried if each != self.home.address]
        heard = {place(each): each for each in await self.discovery.find(self.home.cluster_id, stale)}
        why = ""
        for at in self.home.least_tried(list(heard)):
            self.log.info("heard of {main}; nobody vouches for it", main=str(heard[at]))
            try:
                return await self._try(at, factory)
            except UNREACHED as error:
                why = f"{heard[at]} does not answer: {error}"
        raise ClusterError("unreachable", why)

    async def _try(self, address: Address, factory: IProtocolFactory) -> IProtocol:
        self.home.trying(address)
        return await self.endpoint(address).connect(factory)
