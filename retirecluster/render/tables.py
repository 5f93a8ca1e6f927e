"""Tables that fit the terminal. Widths are in terminal cells, not characters.

A cell that does not fit ends with `…`, so that what is cut is seen to be cut. Text from outside (task names,
reasons) cannot move the cursor or colour anything: control characters are shown escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from retirecluster.render.cells import cut, pad, text_width, visible

GAP = "  "
FLEXIBLE_LEAST = 6
"""Cells below which a flexible column gives way no more before the others do."""
Painter = Callable[[int, int, str], str]
"""(row, column, padded text) -> the text with colours; row -1 is the header."""


def column_widths(natural: Sequence[int], available: int, flexible: frozenset[int] = frozenset()) -> list[int] | None:
    """A width for each column so that all fit into `available` cells with gaps between; None if they cannot.

    Columns in `flexible` give way first, down to a few cells; then all do. Among them the widest give way first and
    evenly, so that short columns stay whole.
    """
    room = available - len(GAP) * (len(natural) - 1)
    if room < len(natural):
        return None
    widths = [max(1, width) for width in natural]
    _shrink(widths, sorted(flexible), sum(widths) - room, FLEXIBLE_LEAST)
    _shrink(widths, range(len(widths)), sum(widths) - room, 1)
    return widths


def _shrink(widths: list[int], columns: Sequence[int], excess: int, least: int) -> None:
    """Take `excess` cells from these columns, the widest first, none below `least`; less if that is not there."""
    while excess > 0:
        widest = max((widths[index] for index in columns), default=0)
        if widest <= least:
            return
        at_widest = [index for index in columns if widths[index] == widest]
        below = max((widths[index] for index in columns if widths[index] < widest), default=least)
        step = max(1, min(widest - max(below, least), excess // len(at_widest)))
        for index in at_widest:
            taken = min(step, excess)
            widths[index] -= taken
            excess -= taken


def render_table(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None = None,
    right: frozenset[int] = frozenset(),
    flexible: frozenset[int] = frozenset(),
    rule: bool = False,
    paint: Painter | None = None,
) -> list[str]:
    """The lines of a table: a header, a rule under it if asked, the rows.

    No line is wider than `width` cells (None: as wide as it gets). Columns in `right` are flush right, those in
    `flexible` are cut before others. Where the terminal is too narrow for all columns side by side, each row becomes
    lines of `TITLE: value`.
    """
    cells = [[visible(cell) for cell in row] for row in rows]
    natural = [
        max([text_width(title)] + [text_width(row[index]) for row in cells]) for index, title in enumerate(titles)
    ]
    if width is None:
        widths: list[int] | None = natural
    else:
        widths = column_widths(natural, max(1, width), flexible)
    if widths is None:
        return _stacked(titles, cells, max(1, width or 1))
    lines = [_row(-1, titles, widths, right, paint)]
    if rule:
        lines.append("─" * (sum(widths) + len(GAP) * (len(widths) - 1)))
    lines.extend(_row(number, row, widths, right, paint) for number, row in enumerate(cells))
    return lines


def _row(number: int, cells: Sequence[str], widths: Sequence[int], right: frozenset[int], paint: Painter | None) -> str:
    padded = [pad(cell, width, index in right) for index, (cell, width) in enumerate(zip(cells, widths, strict=True))]
    if padded and len(cells) - 1 not in right:
        padded[-1] = padded[-1].rstrip(" ")
    if paint is not None:
        padded = [paint(number, index, text) for index, text in enumerate(padded)]
    return GAP.join(padded).rstrip(" ")


def _stacked(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    lines: list[str] = []
    for row in rows:
        if lines:
            lines.append("")
        lines.extend(cut(f"{title}: {cell}", width) for title, cell in zip(titles, row, strict=True))
    return lines


def render_pairs(pairs: Sequence[tuple[str, str]], *, width: int | None = None, indent: str = "  ") -> list[str]:
    """Lines of `name  value`, the values under each other; long values are cut at the width."""
    pairs = [(visible(name), value) for name, value in pairs]
    names = max((text_width(name) for name, _ in pairs), default=0)
    lines = [f"{indent}{pad(name, names) if names else name}{GAP}{visible(value)}".rstrip() for name, value in pairs]
    return lines if width is None else [cut(line, max(1, width)) for line in lines]
