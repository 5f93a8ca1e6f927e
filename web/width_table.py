"""Writes src/width_table.ts: the widths of characters as the renderer of the main has them.

Run it with the newest Python that is supported: `python web/width_table.py > web/src/width_table.ts`.
"""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator

from retirecluster.render.cells import char_width


def ranges(width: int) -> Iterator[tuple[int, int]]:
    """The ranges of characters that take so many cells, first and last of each."""
    first = None
    for code in range(0x300, sys.maxunicode + 2):
        fits = code <= sys.maxunicode and char_width(chr(code)) == width
        if fits and first is None:
            first = code
        elif not fits and first is not None:
            yield first, code - 1
            first = None


def table(name: str, width: int) -> str:
    """The ranges as an array of numbers."""
    numbers = [f"{code:#x}" for pair in ranges(width) for code in pair]
    lines, line = list[str](), " "
    for number in numbers:
        if len(line) + len(number) + 2 > 118:
            lines.append(line)
            line = " "
        line += f" {number},"
    return "\n".join([f"export const {name}: readonly number[] = [", *lines, line, "];"])


if __name__ == "__main__":
    print(f"// Made by width_table.py from Unicode {unicodedata.unidata_version}: first, last, first, last, ...")
    print(table("WIDE", 2))
    print(table("ZERO", 0))
