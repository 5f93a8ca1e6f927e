"""Packets that wake, and whom they may wake."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.wake import LONGEST_AGAIN_S, MAX_MACS, again_after_s, macs_of, magic_packet

MAC = "00:11:22:aa:bb:cc"


def test_the_packet() -> None:
    assert magic_packet(MAC) == bytes.fromhex("ff" * 6 + "001122aabbcc" * 16)
    assert len(magic_packet(MAC)) == 102


@given(st.binary(min_size=6, max_size=6))
def test_every_address_stands_in_its_packet_sixteen_times(address: bytes) -> None:
    assert magic_packet(address.hex(":")) == b"\xff" * 6 + address * 16


@pytest.mark.parametrize(
    "wrong", ["", "00:11:22:aa:bb", MAC + ":dd", "00-11-22-aa-bb-cc", "0g:11:22:aa:bb:cc", MAC + "\n"]
)
def test_what_is_no_address_makes_no_packet(wrong: str) -> None:
    with pytest.raises(ValueError, match="no hardware address"):
        magic_packet(wrong)


def interface(number: int, kind: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": f"if{number}", "mac": f"00:00:00:00:00:{number:02x}"}
    return found if kind is None else found | {"type": kind}


def test_cables_before_radios_and_nothing_virtual() -> None:
    kinds = ["virtual", "wifi", "mobile", None, "ethernet", "ethernet"]
    listed: list[Any] = ["wlan0", {"name": "eth9", "type": "ethernet"}]
    listed += [interface(number, kind) for number, kind in enumerate(kinds)]
    found = macs_of({"hardware_specs": {"network_interfaces": listed}})
    assert [each[-2:] for each in found] == ["04", "05", "03", "01"]
    many = [interface(number, "ethernet") for number in range(50)] * 2
    assert len(macs_of({"hardware_specs": {"network_interfaces": many}})) == MAX_MACS
    assert macs_of({}) == macs_of({"hardware_specs": None}) == []


@given(st.integers(0, 10**6))
def test_the_pauses_grow_up_to_an_hour(woken: int) -> None:
    assert again_after_s(0) == 0.0
    assert again_after_s(woken) <= again_after_s(woken + 1) <= LONGEST_AGAIN_S
