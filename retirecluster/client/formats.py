"""One answer on the console, in the format that was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retirecluster.client.console import Console
from retirecluster.render.columns import Column, Document
from retirecluster.render.views import JSON, TABLE, One, Rows, Style, View, json_text, text_of
from retirecluster.render.views import table_lines as _table_lines


def style_of(console: Console) -> Style:
    """How text has to come for a console. Pipes and files get values as they are."""
    return Style(
        console.width,
        console.colour,
        rule=console.live,
        raw=True,
        ascii_json=console.ascii or not console.live,
        theme=console.theme,
        ascii=console.ascii,
    )


def show(console: Console, form: str, view: View) -> None:
    """Write a view to standard output; what is said of an empty list goes to standard error."""
    if form == TABLE and isinstance(view, Rows) and not view.documents and view.empty:
        console.note(view.empty)
        return
    console.out.write(text_of(view, form, style_of(console)))
    console.out.flush()


def show_list(
    console: Console, form: str, columns: Sequence[Column], documents: Sequence[Document], empty: str = ""
) -> None:
    """Many documents, one a row. `empty` is what to tell a person where there are none."""
    show(console, form, Rows(columns, documents, empty))


def table_lines(console: Console, columns: Sequence[Column], documents: Sequence[Document]) -> list[str]:
    """The documents as a table for people, with colours where there are colours."""
    return _table_lines(columns, documents, style_of(console))


def show_one(console: Console, form: str, document: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> None:
    """One document: `pairs` for people, the document itself as JSON, its simple fields as CSV and TSV."""
    show(console, form, One(document, pairs))


def show_json(console: Console, value: object) -> None:
    """JSON for people and programs: indented, every character as it is on a terminal that can show it."""
    console.line(json_text(value, in_ascii=not console.live))


__all__ = ["JSON", "show", "show_json", "show_list", "show_one", "style_of", "table_lines"]
