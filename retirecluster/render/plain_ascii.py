"""The same text where a terminal knows ASCII alone: as many cells, so that columns stay columns."""

from __future__ import annotations

from retirecluster.render.cells import char_width

_INSTEAD = str.maketrans(
    {
        "─": "-", "━": "#", "╌": ".", "█": "#", "░": ".", "…": "~", "●": "*", "◐": "=", "○": "o", "◌": "?", "°": " ",
        "▁": "_", "▂": "_", "▃": "-", "▄": "-", "▅": "=", "▆": "=", "▇": "#",
    }
)  # fmt: skip


def in_ascii(line: str) -> str:
    """The line in ASCII. What has no likeness is a question mark for each of its cells."""
    if line.isascii():
        return line
    line = line.translate(_INSTEAD)
    return "".join(char if char.isascii() else "?" * char_width(char) for char in line)
