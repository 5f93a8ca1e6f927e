"""From a thread, or an asyncio loop, to the desk in the background: found again after a fork."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from retirecluster.client.background import BackgroundReactor, background
from retirecluster.client.desk import Desk
from retirecluster.client.settings import Connection, Given, find_connection
from retirecluster.domain.errors import ClusterError

T = TypeVar("T")


def connection_of(
    server: str | None,
    token: str | None,
    token_file: str | None = None,
    data_dir: str | None = None,
    profile: str | None = None,
) -> Connection:
    """Server and token as the command line finds them: given, RETIRE_CLUSTER_*, the data folder of this machine."""
    return find_connection(Given(server, token, token_file, data_dir, profile), os.environ)


class Link:
    """A connection to one main, to be used from any thread, and from forked processes, which make one of their own."""

    def __init__(self, connection: Connection, patience_s: float) -> None:
        self.connection = connection
        self._patience_s = patience_s
        self._here: tuple[BackgroundReactor, Desk] | None = None
        self._closed = False

    def here(self) -> tuple[BackgroundReactor, Desk]:
        """The reactor and the desk of this process."""
        if self._closed:
            raise ClusterError("shutting_down", "this Cluster was closed: open another one")
        running = background()
        here = self._here
        if here is None or here[0] is not running:
            here = self._here = running, Desk(self.connection, running.reactor, self._patience_s)
        return here

    def call(self, make: Callable[[Desk], Coroutine[Any, Any, T]]) -> T:
        """What the coroutine of `make` gives; blocks."""
        running, desk = self.here()
        return running.call(lambda: make(desk))

    def start(self, make: Callable[[Desk], Coroutine[Any, Any, T]]) -> Future[T]:
        """The same as a future."""
        running, desk = self.here()
        return running.start(lambda: make(desk))

    def soon(self, act: Callable[[Desk], object]) -> None:
        """Have `act` called with the desk, in the reactor's thread."""
        running, desk = self.here()
        running.soon(lambda: act(desk))

    def close(self) -> Future[None] | None:
        """Close the connections; the future tells when they are. None if nothing was open here."""
        here, self._here, self._closed = self._here, None, True
        if here is None or here[0] is not background():
            return None
        return here[0].start(here[1].close)
