"""The beacon: where a main is, told to everybody on the local network. An address to try, and never a reason to trust.

Pure: datagrams and `now` in, values out. A datagram is one small JSON object. What anybody may send is decoded
strictly, capped in size, in rate and in how much of it is remembered; what comes out is a hint from a stranger.
"""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from attrs import define, field, frozen

from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import Field, Integer, Record, Text
from retirecluster.wire.codec import decode_object
from retirecluster.wire.messages import PROTOCOL_VERSION
from retirecluster.wire.session import TokenBucket

GROUP, PORT = "239.255.82.67", 8267
"""Where announcements go to and questions are asked: a multicast group that stays within a site, and a UDP port."""
EVERY_S, JITTER_S = 30.0, 5.0
"""How often a main says where it is, and by how much that varies, so that mains do not keep step."""
MAX_DATAGRAM_BYTES = 511
QUESTION_BYTES = 512
"""A question is padded to more than its answer has: a main cannot be used to flood a third party with more than it was
sent itself."""
MAX_CLUSTERS, MAX_PER_SOURCE = 64, 8
"""How many different announcements are remembered: in all, and from one address."""

CLUSTER_ID = Text(64, 1, pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*", pattern_doc="letters, digits and . _ - (64 at most)")
CLUSTER_NAME = Text(64, 1)
ANNOUNCEMENT = Record(
    (
        Field("retirecluster", Text(choices=("main",)), "what this is", required=True),
        Field("protocol_version", Integer(1, 1000), required=True),
        Field("cluster_id", CLUSTER_ID, required=True),
        Field("name", CLUSTER_NAME, "of the cluster, for people", required=True),
        Field("address", Text(45, 2), "IP address; left out: where this comes from", nullable=True),
        Field("port", Integer(1, 65535), "for workers", required=True),
        Field("web_port", Integer(1, 65535), "of the dashboard", required=True),
    ),
    closed=True,
)
QUESTION = Record(
    (
        Field("retirecluster", Text(choices=("question",)), "what this is", required=True),
        Field("protocol_version", Integer(1, 1000), required=True),
        Field("cluster_id", CLUSTER_ID, "only that one is asked for", nullable=True),
        Field("padding", Text(QUESTION_BYTES), "makes it longer than its answer", nullable=True),
    ),
    closed=True,
)


@frozen
class Announcement:
    """Where a main says it is. Nobody vouches for any of it."""

    cluster_id: str
    name: str
    address: str
    port: int
    web_port: int
    protocol_version: int = PROTOCOL_VERSION

    @property
    def where(self) -> str:
        """As `--join` takes it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    def __str__(self) -> str:
        return f"{self.name!a} (cluster {self.cluster_id}) at {self.where}"


@frozen
class Question:
    """Somebody looks for a main: for any, or for that of one cluster."""

    cluster_id: str | None = None

    def means(self, cluster_id: str) -> bool:
        return self.cluster_id in (None, cluster_id)


def write_announcement(announcement: Announcement) -> bytes:
    """The datagram. An empty address is left out. Raises ClusterError bad_field for what may not be announced."""
    document: dict[str, Any] = {
        "retirecluster": "main",
        "protocol_version": announcement.protocol_version,
        "cluster_id": announcement.cluster_id,
        "name": announcement.name,
        "port": announcement.port,
        "web_port": announcement.web_port,
    }
    if announcement.address:
        document["address"] = announcement.address
    return _checked(document, ANNOUNCEMENT)


def write_question(cluster_id: str | None = None) -> bytes:
    """The datagram that asks for mains; exactly `QUESTION_BYTES` long."""
    document: dict[str, Any] = {"retirecluster": "question", "protocol_version": PROTOCOL_VERSION, "padding": ""}
    if cluster_id is not None:
        document["cluster_id"] = cluster_id
    document["padding"] = "." * (QUESTION_BYTES - len(_checked(document, QUESTION)))
    return _checked(document, QUESTION)


def _checked(document: dict[str, Any], record: Record) -> bytes:
    problems = record.problems(document)
    if problems:
        raise invalid(problems)
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def read_datagram(data: bytes, source: str) -> Announcement | Question:
    """What a datagram from the address `source` says. Raises ClusterError for anything that it may not be."""
    if len(data) > QUESTION_BYTES:
        raise ClusterError("line_too_long", f"more than {QUESTION_BYTES} bytes")
    document = decode_object(data)
    if document.get("retirecluster") == "question":
        _refuse(QUESTION.problems(document))
        if len(data) < QUESTION_BYTES:
            raise ClusterError("bad_field", f"a question has {QUESTION_BYTES} bytes", field="padding")
        return Question(document.get("cluster_id"))
    _refuse(ANNOUNCEMENT.problems(document))
    if len(data) > MAX_DATAGRAM_BYTES:
        raise ClusterError("line_too_long", f"an announcement of more than {MAX_DATAGRAM_BYTES} bytes")
    address = _address(document.get("address"), source)
    names = ("cluster_id", "name", "port", "web_port", "protocol_version")
    return Announcement(address=address, **{name: document[name] for name in names})


def _refuse(problems: list[Any]) -> None:
    if problems:
        raise invalid(problems)


def _address(said: str | None, source: str) -> str:
    """The announced address: one that can be connected to, and is not this device itself unless that said so."""
    try:
        origin = ip_address(source.partition("%")[0])
        found = origin if said is None else ip_address(said)
    except ValueError:
        raise ClusterError("bad_field", f"address: {said!a} is no IP address", field="address") from None
    if found.is_multicast or found.is_unspecified or _is_broadcast(found):
        raise ClusterError("bad_field", f"address: {found} cannot be connected to", field="address")
    if found.is_loopback and not origin.is_loopback:
        raise ClusterError("bad_field", f"address: {origin} announces {found}, which is this device", field="address")
    return str(found)


def _is_broadcast(address: IPv4Address | IPv6Address) -> bool:
    return address == IPv4Address("255.255.255.255")


def may_be_answered(source: str) -> bool:
    """Whether a question comes from a network at home, and not from the internet."""
    try:
        address = ip_address(source.partition("%")[0])
    except ValueError:
        return False
    return address.is_private or address.is_link_local or address.is_loopback


@define(eq=False)
class Ear:
    """Takes in datagrams from anybody, at a bounded cost. `wanted` is a cluster whose word always finds room."""

    wanted: str | None = None
    rate: TokenBucket = field(factory=lambda: TokenBucket(rate_per_s=50.0, burst=200.0))
    heard: dict[Announcement, str] = field(factory=dict)
    """Different announcements and the address that each came from, in the order in which they came."""
    refused: int = 0
    unread: int = 0
    """Datagrams that came too fast, and were not looked at."""
    left_out: int = 0
    """Announcements for which there was no room."""

    def hear(self, data: bytes, source: str, now: float) -> Announcement | Question | None:
        """What a datagram says; None for what is nonsense, too much, or known already. Never raises."""
        if not self.rate.take(now):
            self.unread += 1
            return None
        try:
            said = read_datagram(data, source)
        except ClusterError:
            self.refused += 1
            return None
        return said if isinstance(said, Question) or self._remember(said, source) else None

    def _remember(self, said: Announcement, source: str) -> bool:
        if said in self.heard:
            return False
        of_source = sum(each == source for each in self.heard.values())
        full = len(self.heard) >= MAX_CLUSTERS or of_source >= MAX_PER_SOURCE
        if full and (said.cluster_id != self.wanted or of_source >= 2 * MAX_PER_SOURCE):
            self.left_out += 1
            return False
        while len(self.heard) >= MAX_CLUSTERS:
            self.heard.pop(next(each for each in self.heard))
        self.heard[said] = source
        return True

    def clusters(self) -> dict[str, list[Announcement]]:
        """What was heard, by cluster id."""
        found: dict[str, list[Announcement]] = {}
        for each in self.heard:
            found.setdefault(each.cluster_id, []).append(each)
        return found
