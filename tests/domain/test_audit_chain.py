"""The chain of the audit trail: any one edit, removal, swap or addition is found, at the first row that is wrong."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.audit_chain import COLUMNS, BadRow, Chain, ChainWriter, first_bad

Stored = tuple[tuple[Any, ...], str]
TEXT = st.text(max_size=8)
ROWS = st.lists(st.tuples(st.floats(0, 2e9), *[TEXT] * (len(COLUMNS) - 2)), min_size=1, max_size=8)


def written(rows: list[tuple[Any, ...]], first_no: int) -> tuple[Chain, list[Stored]]:
    """A trail as the store has it."""
    writer, stored = ChainWriter("before" if first_no else ""), []
    for number, row in enumerate(rows, first_no + 1):
        stored.append(((number, *row), writer.add(number, *row)))
    return Chain(first_no, "before" if first_no else "", first_no + len(rows), writer.last_hash), stored


@given(ROWS, st.integers(0, 5))
def test_what_was_written_is_sound(rows: list[Any], first_no: int) -> None:
    assert first_bad(*written(rows, first_no)) is None
    assert first_bad(Chain(0, "", 0, ""), []) is None


@given(ROWS, st.integers(0, 5), st.data())
def test_any_edit_is_found(rows: list[Any], first_no: int, data: st.DataObject) -> None:
    chain, stored = written(rows, first_no)
    at, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(1, len(COLUMNS)))
    row, hashed = stored[at]
    if column == len(COLUMNS):
        stored[at] = (row, data.draw(TEXT.filter(lambda text: text != hashed)))
    else:
        wanted = st.floats(0, 2e9) if column == 1 else TEXT
        other = data.draw(wanted.filter(lambda value: value != row[column]))
        stored[at] = ((*row[:column], other, *row[column + 1 :]), hashed)
    found = first_bad(chain, stored)
    assert found is not None and found.audit_no == row[0]


@given(ROWS, st.integers(0, 5), st.data())
def test_any_removal_is_found(rows: list[Any], first_no: int, data: st.DataObject) -> None:
    chain, stored = written(rows, first_no)
    row, _ = stored.pop(data.draw(st.integers(0, len(rows) - 1)))
    assert first_bad(chain, stored) == BadRow(row[0], "is missing")


@given(ROWS, st.data())
def test_any_swap_is_found(rows: list[Any], data: st.DataObject) -> None:
    chain, stored = written(rows, 0)
    one, two = sorted(data.draw(st.tuples(*[st.integers(0, len(rows) - 1)] * 2)))
    (first, first_hash), (second, second_hash) = stored[one], stored[two]
    stored[one] = ((first[0], *second[1:]), second_hash)
    stored[two] = ((second[0], *first[1:]), first_hash)
    found = first_bad(chain, stored)
    # Rows that say the same still have other hashes, as these cover the number, too.
    assert (found is None) == (one == two)
    assert found is None or found.audit_no == first[0]


@given(ROWS, ROWS)
def test_what_is_added_is_found(rows: list[Any], more: list[Any]) -> None:
    chain, _ = written(rows, 0)
    _, stored = written(rows + more, 0)
    assert first_bad(chain, stored) == BadRow(len(rows) + 1, "was not written by this program")


@given(ROWS, st.integers(1, 5))
def test_other_ends_are_found(rows: list[Any], first_no: int) -> None:
    chain, stored = written(rows, first_no)
    assert first_bad(Chain(first_no, "other", chain.last_no, chain.last_hash), stored) is not None
    assert first_bad(Chain(first_no, "before", chain.last_no, "other"), stored) is not None
    assert first_bad(Chain(first_no - 1, "before", chain.last_no, chain.last_hash), stored) is not None
