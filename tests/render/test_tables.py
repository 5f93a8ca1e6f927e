"""Tables: never wider than asked, and everything visible or visibly cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.render.cells import CUT, cut, pad, text_width, visible, wrapped
from retirecluster.render.figures import bar
from retirecluster.render.tables import FLEXIBLE_LEAST, column_widths, render_pairs, render_table

cells = st.text(max_size=30) | st.text("日本語テスト漢字", max_size=12) | st.text("abc déf", max_size=25)
tables = st.integers(1, 6).flatmap(
    lambda columns: st.tuples(
        st.lists(st.text("ABCDEFGH", min_size=1, max_size=8), min_size=columns, max_size=columns),
        st.lists(st.lists(cells, min_size=columns, max_size=columns), max_size=5),
    )
)


@given(tables, st.integers(1, 100), st.booleans())
def test_no_line_is_wider_than_the_terminal(table: tuple[list[str], list[list[str]]], width: int, rule: bool) -> None:
    titles, rows = table
    for line in render_table(titles, rows, width=width, rule=rule):
        assert text_width(line) <= width
        assert line.isprintable()


@given(tables, st.integers(1, 100))
def test_each_cell_is_visible_or_visibly_cut(table: tuple[list[str], list[list[str]]], width: int) -> None:
    titles, rows = table
    lines = render_table(titles, rows, width=width)
    joined = "\n".join(lines)
    for row in rows:
        for cell in row:
            shown = visible(cell).strip(" ")
            assert shown in joined or CUT in joined


@given(tables)
def test_without_a_width_nothing_is_cut(table: tuple[list[str], list[list[str]]]) -> None:
    titles, rows = table
    lines = render_table(titles, rows)
    assert len(lines) == len(rows) + 1
    for line, row in zip(lines[1:], rows, strict=True):
        at = 0
        for cell in row:
            at = line.index(visible(cell).rstrip(" "), at)


@given(cells, st.integers(1, 40))
def test_cut_text_fits_and_says_so(text: str, width: int) -> None:
    shown = visible(text)
    result = cut(shown, width)
    assert text_width(result) <= width
    assert result == shown if text_width(shown) <= width else result.endswith(CUT)


@given(cells, st.integers(1, 40), st.booleans())
def test_padded_text_has_exactly_that_width(text: str, width: int, right: bool) -> None:
    assert text_width(pad(visible(text), width, right)) == width


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8), st.integers(1, 200), st.sets(st.integers(0, 7)))
def test_columns_use_what_is_there_and_no_more(natural: list[int], available: int, flexible: set[int]) -> None:
    giving = frozenset(index for index in flexible if index < len(natural))
    widths = column_widths(natural, available, giving)
    if widths is None:
        assert available < len(natural) + 2 * (len(natural) - 1)
        return
    used = sum(widths) + 2 * (len(widths) - 1)
    assert used <= available
    assert all(0 < width <= max(1, wanted) for width, wanted in zip(widths, natural, strict=True))
    if any(width < wanted for width, wanted in zip(widths, natural, strict=True)):
        assert used == available
    others = [index for index in range(len(natural)) if index not in giving]
    if any(widths[index] < natural[index] for index in others):
        assert all(widths[index] <= FLEXIBLE_LEAST for index in giving)


@given(cells, st.integers(2, 40))
def test_wrapped_text_fits_and_loses_nothing_but_blanks(text: str, width: int) -> None:
    shown = visible(text)
    lines = wrapped(shown, width)
    assert all(text_width(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == shown.replace(" ", "")


def test_short_columns_stay_whole_when_a_long_one_gives_way() -> None:
    lines = render_table(("ID", "REASON"), [("task-1", "because " * 10)], width=30)
    assert lines == ["ID      REASON", "task-1  because because becau…"]


def test_wide_characters_count_twice() -> None:
    assert render_table(("A", "B"), [("日本", "x")]) == ["A     B", "日本  x"]


def test_control_characters_are_shown_not_obeyed() -> None:
    assert visible("a\x1b[2Jb\nc\u202e") == "a\\x1b[2Jb\\nc\\u202e"


@pytest.mark.parametrize(
    ("text", "shown", "width"),
    [
        ("👩\u200d👧", "👩👧", 4),
        ("❤\ufe0f\u200d🔥", "❤🔥", 3),
        ("👍🏽", "👍🏽", 4),
        ("pi\u200d3", "pi\\u200d3", 9),
        ("\u200d👧", "\\u200d👧", 8),
        ("e\u0301te\u0301", "e\u0301te\u0301", 3),
        ("한국", "한국", 4),
        ("ｱ", "ｱ", 1),
        ("１", "１", 2),
    ],
)
def test_emoji_and_others_take_what_every_terminal_gives_them(text: str, shown: str, width: int) -> None:
    assert visible(text) == shown
    assert text_width(shown) == width


def test_a_terminal_too_narrow_for_columns_gets_lines() -> None:
    assert render_table(("AB", "CD"), [("x", "y")], width=3) == ["AB…", "CD…"]


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=9), cells), max_size=5), st.integers(1, 60))
def test_pairs_fit_too(pairs: list[tuple[str, str]], width: int) -> None:
    assert all(text_width(line) <= width for line in render_pairs(pairs, width=width))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(2, 40))
def test_bars_have_their_width_and_are_full_only_at_the_end(done: int, total: int, width: int) -> None:
    drawn = bar(min(done, total), total, width)
    assert text_width(drawn) == width
    if total:
        assert ("╌" not in drawn) == (min(done, total) == total)
        assert ("━" in drawn) == (done > 0)
