"""Join strings: what is written is read, and what is damaged is said without its secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.join_string import MAX_HOSTS, PREFIX, JoinString, is_join_string, read_join_string

HOSTS = st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40), min_size=1)
SECRETS = st.text("abcdefgh0189_-", min_size=32, max_size=64)
STRINGS = st.builds(
    JoinString,
    HOSTS.map(lambda found: tuple(found[:MAX_HOSTS])),
    st.integers(1, 65_535),
    st.text("0123456789abcdef", min_size=64, max_size=64),
    SECRETS,
)


@given(found=STRINGS, at=st.integers(0, 400))
def test_what_is_written_is_read(found: JoinString, at: int) -> None:
    text = found.text()
    broken = f" {text[:at]}\r\n  {text[at:]}\n"  # as a mail or a terminal does
    assert is_join_string(text) and read_join_string(text) == read_join_string(broken) == found


@given(found=STRINGS, at=st.integers(5, 100))
def test_a_part_of_one_is_refused(found: JoinString, at: int) -> None:
    with pytest.raises(ClusterError) as raised:
        read_join_string(found.text()[:at])
    assert found.secret not in raised.value.message


@given(text=st.text(max_size=200))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ClusterError):
        read_join_string(PREFIX + text)


@pytest.mark.parametrize("address", ["nas.local", "10.0.0.1:8080", "auto", "[::1]:8080"])
def test_an_address_is_none(address: str) -> None:
    assert not is_join_string(address)


def test_the_secret_is_not_in_its_repr() -> None:
    assert "hidden" not in repr(JoinString(("h",), 1, "a" * 64, "hidden" * 7))
