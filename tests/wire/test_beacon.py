"""The beacon's datagrams: what is written is read again, and anything else costs little and raises nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.beacon import (
    MAX_CLUSTERS,
    MAX_DATAGRAM_BYTES,
    MAX_PER_SOURCE,
    QUESTION_BYTES,
    Announcement,
    Ear,
    Question,
    may_be_answered,
    read_datagram,
    write_announcement,
    write_question,
)
from retirecluster.wire.session import TokenBucket

HOME = Announcement("c-0a1b2c3d", "home", "192.168.1.10", 8080, 5000)
PORTS = st.integers(1, 65535)
IDS = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,40}\Z")
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=64)
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(
    lambda each: not (each.is_multicast or each.is_unspecified or each.is_loopback or str(each) == "255.255.255.255")
)


def document(**changes: Any) -> bytes:
    plain = json.loads(write_announcement(HOME)) | changes
    return json.dumps({name: value for name, value in plain.items() if value is not ...}).encode()


@given(IDS, NAMES, ADDRESSES.map(str), PORTS, PORTS)
def test_what_is_written_is_read_again(cluster_id: str, name: str, address: str, port: int, web_port: int) -> None:
    said = Announcement(cluster_id, name, address, port, web_port)
    datagram = write_announcement(said)
    assert len(datagram) <= MAX_DATAGRAM_BYTES
    assert read_datagram(datagram, "192.168.1.77") == said


def test_the_longest_announcement_fits() -> None:
    longest = Announcement("c" * 64, "\U0001f4f1" * 64, "2001:db8:1111:2222:3333:4444:5555:6666", 65535, 65535, 1000)
    assert len(write_announcement(longest)) <= MAX_DATAGRAM_BYTES
    assert read_datagram(write_announcement(longest), "10.0.0.1") == longest


@given(st.none() | IDS)
def test_a_question_is_longer_than_any_answer(cluster_id: str | None) -> None:
    datagram = write_question(cluster_id)
    assert len(datagram) == QUESTION_BYTES > MAX_DATAGRAM_BYTES
    assert read_datagram(datagram, "10.0.0.1") == Question(cluster_id)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.dictionaries(
    st.sampled_from(["retirecluster", "protocol_version", "cluster_id", "name", "address", "port", "web_port", "x"]),
    JSON | st.sampled_from(["main", "question", 1, 8080, "192.168.1.1", "0.0.0.0", "239.1.1.1"]),
)


@given(st.binary(max_size=600) | FIELDS.map(lambda each: json.dumps(each).encode()), st.text(max_size=20))
def test_anything_is_read_or_refused(data: bytes, source: str) -> None:
    for origin in (source, "192.168.1.77", "fe80::1%wlan0"):
        try:
            said = read_datagram(data, origin)
        except ClusterError:
            continue
        if isinstance(said, Announcement):
            assert read_datagram(write_announcement(said), origin) == said
            assert 0 < said.port < 65536
            assert said.name.isprintable()


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        document(port=0),
        document(port=65536),
        document(port="8080"),
        document(port=True),
        document(cluster_id="../../etc"),
        document(cluster_id="a\nb"),
        document(cluster_id="a" * 65),
        document(name="line\nbreak"),
        document(name="\u001b[31mred"),
        document(name=""),
        document(name="x" * 65),
        document(address="example.org"),
        document(address="0.0.0.0"),
        document(address="239.255.82.67"),
        document(address="255.255.255.255"),
        document(address="127.0.0.1"),
        document(address="::1"),
        document(protocol_version=0),
        document(retirecluster="mine"),
        document(cluster_id=...),
        document(more=1),
        document(name="x") + b" " * 500,
        write_question()[:-3] + b'"}',
    ],
)
def test_what_is_not_an_announcement_is_refused(datagram: bytes) -> None:
    with pytest.raises(ClusterError):
        read_datagram(datagram, "192.168.1.77")


def test_without_an_address_it_is_where_it_comes_from() -> None:
    said = read_datagram(document(address=...), "192.168.1.77")
    assert isinstance(said, Announcement)
    assert said.where == "192.168.1.77:8080"
    here = read_datagram(document(address="127.0.0.1"), "127.0.0.1")
    assert isinstance(here, Announcement), "this device may announce itself to itself"


def test_a_flood_of_garbage_is_mostly_not_even_read() -> None:
    ear = Ear()
    for number in range(10_000):
        assert ear.hear(b"\x00" * (number % 1500), "192.168.1.66", now=number / 100_000) is None
    assert ear.refused <= 210
    assert ear.unread >= 9_700
    assert ear.hear(write_announcement(HOME), "192.168.1.10", now=10.0) == HOME, "the flood is over"


def flooded(ear: Ear, sources: int) -> None:
    """As many valid announcements of made-up clusters as fit, from so many addresses."""
    for number in range(5_000):
        fake = Announcement(f"fake-{number}", "fake", "192.168.1.66", 8080, 5000)
        ear.hear(write_announcement(fake), f"10.0.{number % sources}.1", now=float(number))


def test_one_address_cannot_fill_the_memory() -> None:
    ear = Ear()
    flooded(ear, sources=1)
    assert len(ear.heard) == MAX_PER_SOURCE
    assert ear.hear(write_announcement(HOME), "192.168.1.10", now=6000.0) == HOME


def test_many_addresses_cannot_crowd_out_the_known_cluster() -> None:
    ear = Ear(wanted=HOME.cluster_id)
    flooded(ear, sources=200)
    assert len(ear.heard) == MAX_CLUSTERS
    assert ear.hear(write_announcement(HOME), "192.168.1.10", now=6000.0) == HOME
    assert len(ear.heard) == MAX_CLUSTERS
    stranger = Ear()
    flooded(stranger, sources=200)
    assert stranger.hear(write_announcement(HOME), "192.168.1.10", now=6000.0) is None
    assert stranger.left_out > 4_000


def test_what_is_known_is_no_news() -> None:
    ear = Ear(rate=TokenBucket(1e9, 1e9))
    assert ear.hear(write_announcement(HOME), "192.168.1.10", now=0.0) == HOME
    assert ear.hear(write_announcement(HOME), "192.168.1.10", now=1.0) is None
    assert ear.clusters() == {HOME.cluster_id: [HOME]}


@pytest.mark.parametrize(
    ("source", "answered"),
    [("192.168.1.5", True), ("10.1.1.1", True), ("127.0.0.1", True), ("169.254.3.4", True), ("fe80::1%eth0", True),
     ("8.8.8.8", False), ("2600::1", False), ("nonsense", False)],
)  # fmt: skip
def test_only_the_network_at_home_is_answered(source: str, answered: bool) -> None:
    assert may_be_answered(source) is answered
