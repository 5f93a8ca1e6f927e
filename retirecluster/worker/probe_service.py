"""The service of `--test`: what answers where the main should be, on standard output."""

from __future__ import annotations

import os
import socket
import sys
from random import Random
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import ensureDeferred

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.join_string import JoinString
from retirecluster.worker.data_folder import DataFolder
from retirecluster.worker.discovery import Discovery, place
from retirecluster.worker.home import Address, Home
from retirecluster.worker.keys import Keys
from retirecluster.worker.probe import Found, probe
from retirecluster.worker.ways import Ways, Where


class ProbeService(Service):
    """Asks once, prints, and ends the program. Without an address, asks the network where a main is. By a join string
    it lets the device join first: the worker itself has the keys then, and no secret in its settings."""

    def __init__(self, reactor: Any, data_dir: str, where: Where, device_id: str | None = None) -> None:
        self._reactor = reactor
        self._folder = DataFolder(data_dir)
        self._home = Home(self._folder.home, auto=where is None)
        self._ways = Ways(reactor, Keys(self._folder.path))
        self._where = where
        self._device_id = device_id
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
        if isinstance(self._where, JoinString):
            return await self._join(self._where)
        if self._where is not None:
            return describe(self._where, await self._answer(self._where))
        self._home.load()
        why = ""
        for each in await Discovery(self._reactor).find(self._home.cluster_id):
            try:
                answer = await self._answer(place(each))
            except ClusterError as error:
                why = error.message
                continue
            if answer.server_id == each.cluster_id:
                return f"heard of {each}; nobody vouches for it\n{describe(place(each), answer)}"
            why = f"heard of {each}, but what answers there is of cluster {answer.server_id}"
        raise ClusterError("unreachable", why)

    async def _join(self, found: JoinString) -> str:
        # Not above: most do not join by TLS, and what it takes of memory stays with the process.
        from retirecluster.worker.enrolling import enroll

        self._folder.path.mkdir(0o700, parents=True, exist_ok=True)
        device_id = self._device_id or self._folder.device_id(socket.gethostname(), Random())
        done = await enroll(self._reactor, found, device_id, self._ways.keys)
        self._folder.keep_device_id(done.device_id)
        waits = "; it waits for a person to approve it" if done.waiting else ""
        return f"joined as {done.device_id} at {done.address}{waits}"

    async def _answer(self, address: Address) -> Found:
        try:
            return await probe(self._reactor, self._ways.to(address))
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
