"""Which devices a word means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.commands.selectors import DEVICES, TASKS, Listing, device_named, devices_named, rows
from retirecluster.domain.errors import ClusterError

KNOWN = ["pi", "pi-2", "pixel-3", "3"]
LISTING = Listing(DEVICES, ("pixel-3", "pi", "gone"))


def code(*words: str, listing: Listing | None = LISTING) -> str:
    with pytest.raises(ClusterError) as caught:
        devices_named(words, KNOWN, listing)
    assert caught.value.message.isprintable()
    return caught.value.code


def test_ids_prefixes_rows_and_all() -> None:
    assert devices_named(["pi", "pix"], KNOWN, None) == ["pi", "pixel-3"]
    assert devices_named(["1-2", "pi"], KNOWN, LISTING) == ["pixel-3", "pi"]
    assert devices_named(["2", "all"], KNOWN, LISTING) == ["pi", "pi-2", "pixel-3", "3"]
    assert devices_named(["3"], KNOWN, LISTING) == ["3"], "an id that looks like a row is still an id"
    assert code("p") == "ambiguous" and code("x") == "not_found" and code("\x1b") == "not_found"
    assert (
        code("1-3") == "not_found"
        and code("4") == "not_found"
        and code("2-1") == "not_found"
        and code("0") == "not_found"
    )
    assert code("1", listing=None) == "bad_field" and code("1", listing=Listing(TASKS, ("a",))) == "bad_field"


@given(
    st.lists(st.text("ab-1", min_size=1, max_size=4), unique=True, max_size=6), st.text("ab-1", min_size=1, max_size=4)
)
def test_a_word_names_one_that_begins_so_or_none(known: list[str], word: str) -> None:
    try:
        found = device_named(word, known)
    except ClusterError as error:
        fitting = [each for each in known if each.startswith(word)]
        assert word not in known and len(fitting) != 1
        assert error.code == ("ambiguous" if fitting else "not_found")
    else:
        assert found in known and found.startswith(word)


@given(st.lists(st.text("ab", min_size=1), unique=True, min_size=1, max_size=9), st.integers(1, 9), st.integers(1, 9))
def test_rows_are_those_that_were_shown(ids: list[str], first: int, last: int) -> None:
    listing = Listing(TASKS, tuple(ids))
    if first <= last <= len(ids):
        assert rows(f"{first}-{last}", TASKS, listing) == ids[first - 1 : last]
    else:
        with pytest.raises(ClusterError):
            rows(f"{first}-{last}", TASKS, listing)
    assert rows("a1-2", TASKS, listing) is None
