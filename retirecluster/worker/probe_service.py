"""The service of `--test`: what answers where the main should be, on standard output."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint

from retirecluster.domain.errors import ClusterError
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.discovery import Discovery, place
from retirecluster.worker.home import Address, Home
from retirecluster.worker.probe import Found, probe


class ProbeService(Service):
    """Asks once, prints, and ends the program. Without an address, asks the network where a main is."""

    def __init__(self, reactor: Any, data_dir: str, address: Address | None) -> None:
        self._reactor = reactor
        self._home = Home(DataFolder(data_dir).home, auto=address is None)
        self._address = address
        self.exit_code: int | None = None

    def startService(self) -> None:
        Service.startService(self)
        self._reactor.callWhenRunning(lambda: ensureDeferred(self._run()))

    async def _run(self) -> None:
        try:
            # Not sys.stdout: by now that is the log.
            print(await self._ask(), file=sys.__stdout__, flush=True)
            self.exit_code = 0
        except ClusterError as error:
            print(error.message, file=sys.__stderr__, flush=True)
            self.exit_code = error.kind.exit_code
        self._reactor.addSystemEventTrigger("after", "shutdown", lambda: os._exit(self.exit_code or 0))
        self._reactor.stop()

    async def _ask(self) -> str:
        """What answers. Raises ClusterError."""
        if self._address is not None:
            return describe(self._address, await _answer(self._reactor, self._address))
        self._home.load()
        why = ""
        for each in await Discovery(self._reactor).find(self._home.cluster_id):
            try:
                answer = await _answer(self._reactor, place(each))
            except ClusterError as error:
                why = error.message
                continue
            if answer.server_id == each.cluster_id:
                return f"heard of {each}; nobody vouches for it\n{describe(place(each), answer)}"
            why = f"heard of {each}, but what answers there is of cluster {answer.server_id}"
        raise ClusterError("unreachable", why)


async def _answer(reactor: Any, address: Address) -> Found:
    try:
        return await probe(reactor, HostnameEndpoint(reactor, address.host, address.port))
    except ClusterError as error:
        hint = "is retire-main running there, and does it listen beyond 127.0.0.1?"
        raise ClusterError(error.code, f"no main at {address}: {error.message.rstrip('.')}; {hint}") from None


def describe(address: Address, found: Found) -> str:
    """What `--test` prints. `retire-cluster join` reads the cluster and the address from it."""
    return (
        f"main {found.server_id} at {address} answers: protocol version {found.protocol_version}, "
        f"authentication {found.auth}\n"
        f"round trip {1000 * found.round_trip_s:.1f} ms"
    )
