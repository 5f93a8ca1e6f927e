"""An answer as a value, and that value as text: table, json, csv or tsv.

What a person gets never has anything in it that a terminal would obey, except the colours of `styles`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from retirecluster.render.cells import visible, wrapped
from retirecluster.render.columns import Column, Document, plain, plain_rows
from retirecluster.render.figures import painted
from retirecluster.render.grid import grid_lines
from retirecluster.render.output_text import SafeOutput
from retirecluster.render.plain_ascii import in_ascii
from retirecluster.render.styles import DEFAULT, status_styled, styled
from retirecluster.render.tables import render_pairs, render_table

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
TABLE, JSON, CSV, TSV = "table", "json", "csv", "tsv"


@frozen
class Rows:
    """Many documents, one a row. `empty` is what to tell a person where there are none.

    `ids` names the member by which the rows can be chosen again. `more` are the columns for programs, where these get
    more than people do.
    """

    columns: Sequence[Column]
    documents: Sequence[Document]
    empty: str = ""
    ids: str = ""
    more: Sequence[Column] = ()


@frozen
class One:
    """One document: `pairs` for people, the document itself as JSON, its simple fields as CSV and TSV."""

    document: Document
    pairs: Sequence[tuple[str, str]]


@frozen
class Said:
    """Lines for people; `document` for programs."""

    lines: Sequence[str]
    document: Any = None


@frozen
class Printed:
    """What a task printed: its own colours stay where there are colours. It is not cut: terminals wrap it."""

    text: str
    document: Any = None


@frozen
class Grid:
    """Devices beside each other; for programs the same devices as rows."""

    rows: Rows


@frozen
class Parts:
    """Several views under each other; `document` is all of them as JSON, `rows` what is CSV of it."""

    parts: Sequence[View]
    document: Any
    rows: Rows | One
    gap: bool = True
    """Whether empty lines stand between them."""


View = Rows | One | Said | Printed | Grid | Parts


@frozen
class Style:
    """How text is to come: at most `width` cells (None: as wide as it gets), with colours, with a rule under titles.

    `raw` leaves control characters in CSV and TSV as they are, for files; where a terminal shows it, they are escaped.
    `ascii_json` writes JSON in ASCII alone; `ascii` does so with what people get.
    """

    width: int | None = None
    colour: bool = False
    rule: bool = False
    raw: bool = False
    ascii_json: bool = False
    theme: str = DEFAULT
    ascii: bool = False


def text_of(view: View, form: str, style: Style) -> str:
    """The view in one of the formats; each line ends with a line end, none is wider than the style allows."""
    if form == JSON:
        return json_text(document_of(view), style.ascii_json) + "\n"
    if form in (CSV, TSV):
        return _for_programs(view, form, style.raw)
    return "".join(line + "\n" for line in lines_of(view, style))


def document_of(view: View) -> Any:
    """What programs get."""
    if isinstance(view, Grid):
        return document_of(view.rows)
    return list(view.documents) if isinstance(view, Rows) else view.document


def lines_of(view: View, style: Style) -> list[str]:
    """What people get."""
    lines = _lines(view, style)
    return [in_ascii(line) for line in lines] if style.ascii else lines


def _lines(view: View, style: Style) -> list[str]:
    if isinstance(view, Rows):
        if not view.documents and view.empty:
            return _fit([view.empty], style.width)
        return table_lines(view.columns, view.documents, style)
    if isinstance(view, One):
        return _painted(render_pairs(view.pairs, width=style.width, indent=""), style)
    if isinstance(view, Said):
        return _painted(_fit(view.lines, style.width), style)
    if isinstance(view, Grid):
        shown = view.rows.documents
        return grid_lines(shown, style.width, style.colour, style.theme) or _fit([view.rows.empty], style.width)
    if isinstance(view, Printed):
        return _printed(view.text, style.colour)
    lines: list[str] = []
    for part in view.parts:
        lines += [""] * bool(lines and view.gap) + _lines(part, style)
    return lines


def _painted(lines: list[str], style: Style) -> list[str]:
    return [painted(line, style.theme) for line in lines] if style.colour else lines


def _printed(text: str, colour: bool) -> list[str]:
    safe = SafeOutput()
    shown = safe.feed(text) + safe.flush()
    lines = (shown if colour else _COLOUR.sub("", shown)).split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if colour and lines and "\x1b[" in shown:
        lines[-1] += "\x1b[0m"
    return lines


def _fit(lines: Sequence[str], width: int | None) -> list[str]:
    shown = [visible(line) for line in lines]
    return shown if width is None else [part for line in shown for part in wrapped(line, max(1, width))]


def table_lines(columns: Sequence[Column], documents: Sequence[Document], style: Style) -> list[str]:
    """The documents as a table."""
    statuses = {index for index, column in enumerate(columns) if column.is_status}

    def paint(row: int, index: int, text: str) -> str:
        if row < 0:
            return styled(text, "bold", style.theme)
        return status_styled(text, style.theme) if index in statuses else painted(text, style.theme)

    return render_table(
        [column.title for column in columns],
        [[column.text(document) for column in columns] for document in documents],
        width=style.width,
        right=frozenset(index for index, column in enumerate(columns) if column.right),
        flexible=frozenset(index for index, column in enumerate(columns) if column.flexible),
        rule=style.rule,
        paint=paint if style.colour else None,
    )


def _for_programs(view: View, form: str, raw: bool) -> str:
    if isinstance(view, Parts | Grid):
        return _for_programs(view.rows, form, raw)
    if isinstance(view, Rows):
        columns = view.more or view.columns
        titles, rows = [column.title.lower() for column in columns], plain_rows(columns, view.documents)
    else:
        document = view.document if isinstance(view.document, Mapping) else {"line": " ".join(_said(view))}
        simple = [(name, value) for name, value in document.items() if not isinstance(value, Mapping | list)]
        titles, rows = [str(name) for name, _ in simple], [[_plain(value, raw) for _, value in simple]]
    if not raw:
        titles, *rows = [[visible(cell) for cell in row] for row in [titles, *rows]]
    return csv_text(titles, rows) if form == CSV else tsv_text(titles, rows, escaped=not raw)


def _said(view: One | Said | Printed) -> Sequence[str]:
    return view.lines if isinstance(view, Said) else view.text.split("\n") if isinstance(view, Printed) else ()


def _plain(value: Any, raw: bool) -> str:
    return str(value) if raw else plain(value)


def json_text(value: object, in_ascii: bool = False) -> str:
    """JSON for people and programs: indented, and without a character that a terminal would obey."""
    text = json.dumps(value, indent=2, ensure_ascii=in_ascii)
    if text.isascii():  # json escapes all control characters of ASCII but the last
        return text.replace("\x7f", "\\u007f")
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def csv_text(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """CSV as in RFC 4180, with a header and CRLF line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(titles)
    writer.writerows(rows)
    return out.getvalue()


_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def tsv_text(titles: Sequence[str], rows: Sequence[Sequence[str]], escaped: bool = False) -> str:
    """Tab-separated values with a header; backslash, tab and line ends in values are escaped with a backslash.

    `escaped` values have been through `visible`: their backslashes stay as they are.
    """
    lines = [titles, *rows]
    return "".join(
        "\t".join(cell if escaped else cell.translate(_TSV_ESCAPES) for cell in line) + "\n" for line in lines
    )
