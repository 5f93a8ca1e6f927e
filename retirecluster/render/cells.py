"""Text in terminal cells: how wide it is, how it is cut, and that a terminal obeys nothing in it.

Widths are upper bounds: terminals differ in what they make of joined emoji, and a line that ends a cell early does less
harm than one that wraps.
"""

from __future__ import annotations

import re
import unicodedata

CUT = "…"
_PRESENTATION = {0xFE0E: None, 0xFE0F: None}
"""Characters that only choose between two pictures of the one before. Terminals disagree about the width that this
makes, so they are left out."""
_JOINER = "\u200d"
_JOINED = re.compile(f"(?<=.){_JOINER}(?=.)")
_PICTURES = ("So", "Sk")
"""Emoji and their skin colours. What joins two of them is left out for the same reason: some terminals draw one picture
of two cells, others all of them. Elsewhere joiners are shown: two names that look the same must not differ by them."""


def char_width(char: str) -> int:
    """Cells that a character takes: 0 for combining marks, 2 for wide ones, else 1."""
    if char.isascii():
        return 1
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    # Halves of flags are drawn alone where they do not meet their other half.
    return 2 if unicodedata.east_asian_width(char) in "WF" or "\U0001f1e6" <= char <= "\U0001f1ff" else 1


def text_width(text: str) -> int:
    """Cells that a text without control characters takes."""
    return len(text) if text.isascii() else sum(char_width(char) for char in text)


def visible(text: str) -> str:
    """The text on one line, with everything that a terminal would obey or hide shown as an escape."""
    if text.isascii() and text.isprintable():
        return text
    text = text.translate(_PRESENTATION)
    if _JOINER in text:
        text = _JOINED.sub(_apart, text)
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _apart(found: re.Match[str]) -> str:
    before, after = found.string[found.start() - 1], found.string[found.end()]
    pictures = unicodedata.category(before) in _PICTURES and unicodedata.category(after) in _PICTURES
    return "" if pictures else found[0]


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells (at least 1); ends with `…` if something is missing."""
    if text_width(text) <= width:
        return text
    kept, used = [], 1
    for char in text:
        used += char_width(char)
        if used > width:
            break
        kept.append(char)
    return "".join(kept) + CUT


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells (at least 2), broken at blanks where there are any."""
    lines, line = list[str](), ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if text_width(longer) <= width:
            line = longer
            continue
        if line.strip():
            lines.append(line)
        *whole, line = _pieces(word, max(2, width))
        lines += whole
    return [*lines, line]


def _pieces(word: str, width: int) -> list[str]:
    """A word in pieces that fit."""
    pieces, used = [""], 0
    for char in word:
        used += char_width(char)
        if used > width:
            pieces.append("")
            used = char_width(char)
        pieces[-1] += char
    return pieces


def pad(text: str, width: int, right: bool = False) -> str:
    """The text cut or filled up to exactly `width` cells."""
    text = cut(text, width)
    fill = " " * (width - text_width(text))
    return fill + text if right else text + fill
