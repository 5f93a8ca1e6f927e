"""The cluster that this device belongs to: the one that it joined first, and where its main was last."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import define, field, frozen
from twisted.internet.abstract import isIPv6Address
from twisted.logger import Logger

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Problem
from retirecluster.wire.beacon import CLUSTER_ID
from retirecluster.worker.data_folder import write_whole

DEFAULT_PORT = 8080
MAX_TRIED = 128
AUTO = "auto"
"""What `join` says where the main is to be found on the network."""


@frozen
class Address:
    """Where a main is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def read_address(text: str) -> Address:
    """`host`, `host:port`, `[v6]:port` or a bare IPv6 address. Raises ClusterError bad_config."""
    host, port = text, str(DEFAULT_PORT)
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or port
    elif text.count(":") == 1:
        host, port = text.split(":")
    elif ":" in text and not isIPv6Address(text):
        host = ""
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ClusterError("bad_config", f"join: {text!r} is no address; write HOST or HOST:PORT")
    return Address(host, int(port))


@define(eq=False)
class Home:
    """What is kept in `path`. With `auto` no other cluster than the kept one is joined.

    That the main says the right id proves nothing: everybody may say it. It keeps mistakes away, not attackers.
    """

    path: Path
    auto: bool
    log = Logger()
    cluster_id: str | None = field(default=None, init=False)
    address: Address | None = field(default=None, init=False)
    tries: int = field(default=0, init=False)
    """How often a connection was tried since the last registration."""
    tried: list[Address] = field(factory=list, init=False)
    """Where it was tried since then, the latest last: none of them has led to a registration."""
    _written: bool = field(default=False, init=False)

    def load(self) -> None:
        """Take in what an earlier life kept; a file that is damaged counts as none."""
        try:
            kept = json.loads(self.path.read_text("utf-8"))
            address, problems = read_address(kept["address"]), list[Problem]()
            CLUSTER_ID.check(kept["cluster_id"], "cluster_id", problems)
            if problems:
                raise ValueError(str(problems[0]))
            self.cluster_id, self.address = kept["cluster_id"], address
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ClusterError) as error:
            self.log.warn("{path} is not understood and left out: {why}", path=str(self.path), why=repr(error))

    def trying(self, address: Address) -> None:
        """A connection to this address is tried now."""
        if address in self.tried:
            self.tried.remove(address)
        self.tried = [*self.tried[-MAX_TRIED:], address]

    def least_tried(self, addresses: list[Address]) -> list[Address]:
        """New ones first, then those that were tried the longest ago."""
        return sorted(addresses, key=lambda each: self.tried.index(each) if each in self.tried else -1)

    def why_not(self, server_id: str) -> str:
        """Why the main that greets is not to be joined; empty if it is."""
        if not self.auto or self.cluster_id in (None, server_id):
            return ""
        return (
            f"it is of cluster {server_id}, and this device belongs to {self.cluster_id}: "
            "to change, retire-cluster leave and join again, or name the address"
        )

    def joined(self, server_id: str, host: str, port: int) -> None:
        """A main has let this device in. Written down if it is news (old flash is spared), and once in each life:
        `retire-cluster join` waits for that."""
        self.tries = 0
        self.tried.clear()
        address = Address(host, port)
        if self._written and (self.cluster_id, self.address) == (server_id, address):
            return
        self.cluster_id, self.address, self._written = server_id, address, True
        try:
            write_whole(self.path, json.dumps({"cluster_id": server_id, "address": str(address)}) + "\n")
        except OSError as error:
            self.log.warn("{path} cannot be written: {why}", path=str(self.path), why=str(error))
