"""Tables as text, CSV, TSV and JSON, and which of them a caller wants.

A table is a list of column names and rows of plain values. In text the separator and in all formats control
characters are escaped, so that a name can neither forge a column nor move a terminal's cursor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attrs import frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.tasks import encode
from retirecluster.web.acceptable import not_acceptable, quality

TEXT, CSV, TSV, JSON = "text", "csv", "tsv", "json"
MEDIA_TYPES = {
    TEXT: "text/plain; charset=utf-8",
    CSV: "text/csv; charset=utf-8",
    TSV: "text/tab-separated-values; charset=utf-8",
    JSON: "application/json",
}
"""The formats, in the order in which they are preferred."""
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


@frozen
class Table:
    """Named columns and their rows. A `record` is one thing: its rows are (name, value)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    record: bool = False


def wanted_format(asked: str | None, accept: str | None, available: Iterable[str] = MEDIA_TYPES) -> str:
    """The format that ?format= names or Accept prefers; text if neither says. Raises not_acceptable."""
    known = list(available)
    if asked:
        if asked in known:
            return asked
        raise _not_acceptable(f"format={asked[:40]}", known)
    if not accept:
        return known[0]
    best = max(known, key=lambda name: quality(MEDIA_TYPES[name].partition(";")[0], accept))
    if quality(MEDIA_TYPES[best].partition(";")[0], accept) <= 0:
        raise _not_acceptable(f"Accept: {accept}", known)
    return best


def _not_acceptable(what: str, known: Sequence[str]) -> ClusterError:
    return not_acceptable(what, [f"{name} ({MEDIA_TYPES[name].partition(';')[0]})" for name in known])


def rendered(table: Table, wanted: str, header: bool | None) -> str:
    """A table in one of the formats. `header` None: as is usual there (CSV and TSV have one)."""
    if wanted == JSON:
        return _as_json(table)
    if wanted == CSV:
        return _lines(table, csv_cell, ",", "\r\n", header is not False)
    if wanted == TSV:
        return _lines(table, tsv_cell, "\t", "\n", header is not False)
    if table.record:
        return "".join(f"{text_cell(name).upper()}: {text_cell(value)}\n" for name, value in table.rows)
    return _lines(table, text_cell, "|", "\n", bool(header))


def _as_json(table: Table) -> str:
    if table.record:
        return encode({str(name): value for name, value in table.rows})
    return encode([dict(zip(table.columns, row, strict=True)) for row in table.rows])


def _lines(table: Table, cell: Any, separator: str, end: str, header: bool) -> str:
    rows: list[Sequence[Any]] = [table.columns] if header else []
    rows += table.rows
    return "".join(separator.join(map(cell, row)) + end for row in rows)


def plain(value: Any) -> str:
    """A value without type: empty for null, JSON for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return encode(value) if isinstance(value, dict | list | tuple) else str(value)


def text_cell(value: Any) -> str:
    """For people and naive splitting: nothing in it is a `|` or a control character; null is `-`."""
    text = plain(value)
    if not text:
        return "-"
    return _escaped(text, "\\").replace("|", "\\x7c")


def tsv_cell(value: Any) -> str:
    """One line without tabs; backslashes are doubled."""
    return _escaped(plain(value), "\\")


def csv_cell(value: Any) -> str:
    """By RFC 4180: quoted where it has commas, quotes or line ends. Other control characters are escaped."""
    text = _escaped(plain(value), "", keep="\r\n\t")
    if any(mark in text for mark in ',"\r\n') or text != text.strip():
        return '"' + text.replace('"', '""') + '"'
    return text


def _escaped(text: str, also: str, keep: str = "") -> str:
    if text.isprintable() and not (also and also in text):
        return text
    return "".join(
        each if each in keep or (each.isprintable() and each not in also) else _escape(each) for each in text
    )


def _escape(each: str) -> str:
    code = ord(each)
    named = _NAMED.get(each)
    if named is not None:
        return named
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
