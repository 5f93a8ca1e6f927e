"""Views: one answer in every format, and nothing in it that a terminal obeys."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.render.cells import text_width
from retirecluster.render.columns import Column, field
from retirecluster.render.views import One, Parts, Printed, Rows, Said, Style, View, lines_of, text_of

SGR = re.compile(r"\x1b\[[0-9;]*m")
texts = st.text(max_size=20) | st.sampled_from(["\x1b[2J", "\x9b5n", "\u202e", "a\r\nb", "日本", "❤️", "👩‍👧", "\x7f"])
COLUMNS = (Column("NAME", field("name"), flexible=True), Column("STATE", field("state"), is_status=True))
documents = st.lists(st.fixed_dictionaries({"name": texts, "state": st.sampled_from(["online", "failed"])}), max_size=4)
views: st.SearchStrategy[View] = st.one_of(
    documents.map(lambda found: Rows(COLUMNS, found, "none")),
    st.dictionaries(texts, texts, max_size=4).map(lambda found: One(found, list(found.items()))),
    st.lists(texts, max_size=4).map(lambda found: Said(found, {"lines": len(found)})),
    documents.map(lambda found: Parts([Said(["x"]), Rows(COLUMNS, found)], {"all": found}, Rows(COLUMNS, found))),
)


@given(views, st.sampled_from(["table", "json", "csv", "tsv"]), st.integers(1, 80), st.booleans())
def test_nothing_in_it_moves_a_cursor(view: View, form: str, width: int, colour: bool) -> None:
    text = text_of(view, form, Style(width, colour, rule=True)).replace("\r\n", "\n")
    rest = SGR.sub("", text) if colour else text
    assert all(char.isprintable() or char in "\n\t" for char in rest), ascii(rest)


@given(views, st.integers(2, 80))
def test_no_line_is_wider_than_asked(view: View, width: int) -> None:
    for line in lines_of(view, Style(width, colour=True, rule=True)):
        assert text_width(SGR.sub("", line)) <= width


@given(documents)
def test_json_and_raw_csv_say_the_same(found: list[dict[str, Any]]) -> None:
    rows = Rows(COLUMNS, found, "none")
    assert json.loads(text_of(rows, "json", Style())) == found
    read = list(csv.DictReader(io.StringIO(text_of(rows, "csv", Style(raw=True)), newline=""), strict=True))
    assert [(each["name"], each["state"]) for each in read] == [(each["name"], each["state"]) for each in found]
    assert text_of(rows, "tsv", Style()).count("\n") == len(found) + 1


@given(st.text())
def test_what_a_task_printed_keeps_its_colours_at_most(text: str) -> None:
    for colour in (False, True):
        shown = "\n".join(lines_of(Printed(f"\x1b[31m{text}"), Style(colour=colour)))
        rest = SGR.sub("", shown) if colour else shown
        assert not [char for char in rest if unicodedata.category(char) == "Cc" and char not in "\n\t"], ascii(rest)
        assert not set(rest) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@pytest.mark.parametrize(
    ("text", "width"), [("日本", 4), ("e\u0301", 1), ("❤\ufe0f", 2), ("🇩🇪", 4), ("a", 1), ("한", 2)]
)
def test_widths_are_upper_bounds(text: str, width: int) -> None:
    assert text_width(text) <= width
