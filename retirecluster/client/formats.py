"""One answer in the format that was asked for: table, json, csv or tsv."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from retirecluster.client.columns import Column, Document, plain_rows
from retirecluster.client.console import Console
from retirecluster.client.tables import render_pairs, render_table

FORMATS = ("table", "json", "csv", "tsv")


def show_list(
    console: Console, form: str, columns: Sequence[Column], documents: Sequence[Document], empty: str = ""
) -> None:
    """Many documents, one a row. `empty` is what to tell a person where there are none."""
    if form == "json":
        show_json(console, list(documents))
    elif form in ("csv", "tsv"):
        write = csv_text if form == "csv" else tsv_text
        console.out.write(write([column.title.lower() for column in columns], plain_rows(columns, documents)))
    elif not documents and empty:
        console.note(empty)
    else:
        console.lines(table_lines(console, columns, documents))


def table_lines(console: Console, columns: Sequence[Column], documents: Sequence[Document]) -> list[str]:
    """The documents as a table for people, with colours where there are colours."""
    statuses = {index for index, column in enumerate(columns) if column.is_status}

    def paint(row: int, index: int, text: str) -> str:
        if row < 0:
            return console.style(text, "bold")
        return console.status(text) if index in statuses else text

    return render_table(
        [column.title for column in columns],
        [[column.text(document) for column in columns] for document in documents],
        width=console.width,
        right=frozenset(index for index, column in enumerate(columns) if column.right),
        flexible=frozenset(index for index, column in enumerate(columns) if column.flexible),
        rule=console.live,
        paint=paint if console.colour else None,
    )


def show_one(console: Console, form: str, document: Mapping[str, Any], pairs: Sequence[tuple[str, str]]) -> None:
    """One document: `pairs` for people, the document itself as JSON, its simple fields as CSV and TSV."""
    if form == "json":
        show_json(console, document)
    elif form in ("csv", "tsv"):
        simple = [(name, str(value)) for name, value in document.items() if not isinstance(value, Mapping | list)]
        write = csv_text if form == "csv" else tsv_text
        console.out.write(write([name for name, _ in simple], [[value for _, value in simple]]))
    else:
        console.lines(render_pairs(pairs, width=console.width, indent=""))


def show_json(console: Console, value: object) -> None:
    """JSON for people and programs: indented, every character as it is on a terminal that can show it."""
    text = json.dumps(value, indent=2, ensure_ascii=not console.live)
    console.line(text)


def csv_text(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """CSV as in RFC 4180, with a header and CRLF line ends."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(titles)
    writer.writerows(rows)
    return out.getvalue()


_TSV_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def tsv_text(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Tab-separated values with a header; backslash, tab and line ends in values are escaped with a backslash."""
    lines = [titles, *rows]
    return "".join("\t".join(cell.translate(_TSV_ESCAPES) for cell in line) + "\n" for line in lines)
