"""The site that the main listens with."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.web.server import Site

from retirecluster.domain.access import Caller
from retirecluster.domain.errors import ClusterError
from retirecluster.main.access import Access
from retirecluster.main.cluster import Cluster
from retirecluster.main.events import EventBus
from retirecluster.main.figures import Figures
from retirecluster.web import openapi, pages
from retirecluster.web.answers import problem, raw
from retirecluster.web.calls import Web
from retirecluster.web.connections import Channel, WebRequest, segments
from retirecluster.web.guard import CONSTANT_BLOCK, Guard
from retirecluster.web.hub import StreamHub
from retirecluster.web.routes import ROUTES
from retirecluster.web.routing import make_app

log = Logger()
MAX_CONNECTIONS = 1000
SWEEP_S = 1.0
METHODS = {each.encode("ascii"): each for each in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
OTHER = "other"
"""In figures: a method that is none of these, or an address that is nowhere."""


class WebSite(Site):
    """Makes connections, looks at their deadlines once a second, and ends them when the main stops."""

    protocol = Channel  # type: ignore[assignment]

    def __init__(
        self, guard: Guard, hub: StreamHub, clock: IReactorTime, figures: Figures, max_connections: int
    ) -> None:
        super().__init__(None, requestFactory=WebRequest, reactor=clock, timeout=None)
        self.guard = guard
        self.hub = hub
        self.clock = clock
        self.figures = figures
        self.max_connections = max_connections
        self.channels: set[Channel] = set()
        self._resource: Any = None
        self._prefix = secrets.token_hex(4)
        self._requests = 0
        self._closed = False
        self._sweeper = LoopingCall(self._sweep)
        self._sweeper.clock = clock

    def serve(self, resource: Any) -> None:
        """Answer requests from this resource: Klein's, which takes all of the path."""
        self.resource = self._resource = resource

    # -- what connections need

    def seconds(self) -> float:
        """Now."""
        return self.clock.seconds()

    def new_request_id(self) -> str:
        """An id that no other request of this main has."""
        self._requests += 1
        return f"{self._prefix}-{self._requests:x}"

    def joined(self, channel: Channel) -> None:
        """A connection begins."""
        self.channels.add(channel)

    def left(self, channel: Channel) -> None:
        """A connection has ended."""
        self.channels.discard(channel)

    def render(self, request: WebRequest) -> None:
        """Answer a request. Raises ClusterError for an address that is not one."""
        path = request.path
        if not path.startswith(b"/"):
            raise ClusterError("not_found", "an address begins with /")
        request.prepath = []
        request.postpath = segments(path)
        request.render(self._resource)

    def answered(self, route: str, method: bytes, status: int, came_s: float | None = None) -> None:
        """Count an answer, and how long it took. What callers make up is not told apart."""
        self.figures.requests[route or OTHER, METHODS.get(method, OTHER), status] += 1
        if came_s is not None:
            self.figures.answers_s[route or OTHER, status // 100].observe(self.clock.seconds() - came_s)

    # -- what the reactor needs

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A connection, or where there are too many one that says so."""
        if self._closed or len(self.channels) >= self.max_connections:
            return _Overfull(self.new_request_id())
        channel: Any = super().buildProtocol(addr)
        channel.host = self
        return channel

    def startFactory(self) -> None:
        """Begin to look at deadlines. No access log, and none of its timers."""
        if not self._sweeper.running:
            self._sweeper.start(SWEEP_S, now=False)

    def stopFactory(self) -> None:
        """The port is closed."""
        if self._sweeper.running:
            self._sweeper.stop()

    def log(self, request: Any) -> None:
        """No access log."""

    def close(self) -> None:
        """End streams and waiting reads; let what is being written be answered, and take nothing new."""
        self._closed = True
        if self._sweeper.running:
            self._sweeper.stop()
        self.hub.close()
        for channel in list(self.channels):
            channel.stop()

    def drop(self, wanted: Callable[[Caller], bool]) -> None:
        """End the streams and waiting reads of some callers at once."""
        for channel in list(self.channels):
            request = channel.answering()
            if request is not None and wanted(request.caller):
                channel.transport.abortConnection()

    def _sweep(self) -> None:
        now = self.clock.seconds()
        for channel in [each for each in self.channels if each.deadline_s <= now]:
            try:
                channel.expired()
            except Exception:
                log.failure("a connection that is over its time could not be closed")


class _Overfull(Protocol):
    """Says that there are too many connections, and goes."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def connectionMade(self) -> None:
        answer = problem(ClusterError("too_many_connections"), self._request_id)
        assert self.transport is not None
        self.transport.write(raw(answer, {b"X-Request-Id": self._request_id.encode("ascii")}, CONSTANT_BLOCK))
        self.transport.loseConnection()


def make_site(
    cluster: Cluster,
    events: EventBus,
    access: Access,
    *,
    hosts: Sequence[str],
    trusted_network: bool,
    clock: IReactorTime,
    max_connections: int = MAX_CONNECTIONS,
) -> WebSite:
    """The web doors of a cluster. `hosts` are the names by which browsers may reach it, loopback's aside.

    With `trusted_network` reading needs no token from anywhere; else only from this machine. Listen with it, and
    `close()` it before the cluster stops.
    """
    hub = StreamHub(events, clock)
    files = cluster.desk.files
    guard = Guard.create(
        hosts,
        access.by_token,
        trusted_network=trusted_network,
        sessions=access.by_cookie,
        devices=files.tokens.device_of,
    )
    site = WebSite(guard, hub, clock, cluster.figures, max_connections)
    described, connections = openapi.document_text(ROUTES), lambda: len(site.channels)
    web = Web(cluster, hub, pages.load_assets(), described, connections, files, access)
    access.ended = lambda: site.drop(lambda caller: not access.is_good(caller))
    site.serve(make_app(ROUTES, web).resource())
    return site
