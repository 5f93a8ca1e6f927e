"""UDP ports that speak to the beacon's group: through every interface of this device, never farther than one hop."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IMulticastTransport
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.wire.beacon import GROUP, PORT

ANY = ""
"""The interface that the system chooses."""
SIOCGIFADDR = 0x8915
"""Linux: the IPv4 address of an interface (netdevice(7))."""
MAX_INTERFACES = 32


def interface_addresses() -> list[str]:
    """The IPv4 addresses of this device, one for each interface; `[ANY]` where the system does not tell."""
    found = []
    try:
        import fcntl  # here: Windows has none

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            for _, name in socket.if_nameindex()[:MAX_INTERFACES]:
                try:
                    answer = fcntl.ioctl(asked, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                except OSError:
                    continue  # it has no address
                found.append(socket.inet_ntoa(answer[20:24]))
    except (ImportError, OSError):
        return [ANY]
    return found or [ANY]


class GroupPort(DatagramProtocol):
    """One UDP port. What comes goes to `received(data, host, port)`; a `member` also hears what the group is told."""

    log = Logger()

    def __init__(
        self, received: Callable[[bytes, str, int], None], interfaces: Callable[[], list[str]], member: bool
    ) -> None:
        self._received = received
        self._interfaces = interfaces
        self._member = member
        self._joined: set[str] = set()

    @property
    def _group(self) -> Any:
        return cast(IMulticastTransport, self.transport)

    def startProtocol(self) -> None:
        self._group.setTTL(1)
        self._join(self._interfaces())

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._received(datagram, addr[0], addr[1])

    def tell(self, data: bytes, host: str, port: int) -> None:
        """Send one datagram; what cannot be sent is lost, as any datagram may be."""
        try:
            self.transport.write(data, (host, port))  # type: ignore[union-attr]
        except OSError as error:
            self.log.debug("not sent to {host}: {why}", host=host, why=str(error))

    def tell_group(self, data: bytes) -> None:
        """Send to the group, once through each interface that there is now."""
        interfaces = self._interfaces()
        self._join(interfaces)
        for each in interfaces:
            try:
                if each != ANY:
                    self._group.setOutgoingInterface(each).addErrback(self._failed, each)
                self.transport.write(data, (GROUP, PORT))  # type: ignore[union-attr]
            except OSError as error:
                self.log.debug("not sent through {each}: {why}", each=each or "any interface", why=str(error))

    def _join(self, interfaces: list[str]) -> None:
        """Be a member through interfaces that are new: a laptop finds its network after the worker has started."""
        if not self._member:
            return
        self._joined &= set(interfaces)
        for each in set(interfaces) - self._joined:
            self._joined.add(each)
            self._group.joinGroup(GROUP, each).addErrback(self._failed, each)

    def _failed(self, failure: Failure, interface: str) -> None:
        self._joined.discard(interface)
        self.log.debug("no multicast on {each}: {why}", each=interface or "any", why=failure.getErrorMessage())
