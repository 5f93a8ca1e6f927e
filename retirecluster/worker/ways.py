"""Ways to the main: in the clear, or by TLS to the one whose authority is pinned; and first of all joining it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.join_string import JoinString, is_join_string, read_join_string
from retirecluster.worker.home import AUTO, Address, read_address
from retirecluster.worker.keys import Keys

Where = Address | JoinString | None
"""What the setting `join` names. None: the main is looked for on the network."""


def read_where(text: str) -> Where:
    """The setting `join`. Raises ClusterError bad_config."""
    if text == AUTO:
        return None
    return read_join_string(text) if is_join_string(text) else read_address(text)


@define(eq=False)
class Ways:
    """Makes endpoints. Keys that are there are used, whatever the address: the pin is never given up."""

    reactor: Any
    keys: Keys

    def to(self, address: Address) -> IStreamClientEndpoint:
        """The way to an address. Raises ClusterError bad_config for keys that cannot be used."""
        plain = HostnameEndpoint(self.reactor, address.host, address.port)
        if not self.keys.here:
            return plain
        from retirecluster.tls import TlsEndpoint  # not above: memory, where there is no TLS

        return TlsEndpoint(self.reactor, plain, self.keys.identity().context())


@implementer(IStreamClientEndpoint)
@define(eq=False)
class ByString:
    """The way to the main of a join string: join it first, if that has not been done, then connect."""

    ways: Ways
    found: JoinString
    device_id: Callable[[], str]
    joined: Callable[[str], None]
    """Told the device id that the main has given."""
    log = Logger()

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        return ensureDeferred(self._connect(factory))

    async def _connect(self, factory: IProtocolFactory) -> IProtocol:
        if not self._has_joined():
            from retirecluster.worker.enrolling import enroll

            try:
                done = await enroll(self.ways.reactor, self.found, self.device_id(), self.ways.keys)
            except ClusterError as error:
                self.log.error("joining failed: {why}", why=error.message)
                raise
            self.joined(done.device_id)
        why: Exception = ClusterError("unreachable", "the join string names no main")
        for host in self.found.hosts:
            try:
                return await self.ways.to(Address(host, self.found.port)).connect(factory)
            except Exception as error:  # the next one may do; the last error is for the log
                why = error
        raise why

    def _has_joined(self) -> bool:
        if not self.ways.keys.here:
            return False
        from retirecluster.tls import ca_hash

        return ca_hash(self.ways.keys.identity().ca) == self.found.ca_hash
