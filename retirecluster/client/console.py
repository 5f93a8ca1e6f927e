"""What may be written where: colours, boxes and cursor movement only on a terminal, and not with NO_COLOR."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from typing import TextIO

from attrs import define

from retirecluster.render.plain_ascii import in_ascii
from retirecluster.render.styles import DEFAULT, THEMES, status_styled, styled

THEME_VARIABLE = "RETIRE_CLUSTER_THEME"

_KNOW_ALL = ("utf-8", "utf8", "utf-8-sig", "utf-16", "gb18030")
"""Encodings of terminals that can show every character."""


@define
class Console:
    """Standard output and error of a command.

    `width` is in cells, None where nothing has to fit (a pipe, a file). `live` says that lines may be redrawn
    in place; `colour` that they may be coloured, and `theme` how. `ascii` says that nothing else can be shown.
    """

    out: TextIO
    err: TextIO
    width: int | None = None
    colour: bool = False
    live: bool = False
    theme: str = DEFAULT
    ascii: bool = False

    @classmethod
    def for_process(cls, environ: Mapping[str, str]) -> Console:
        """The console of this process."""
        out = sys.stdout
        terminal = out.isatty()
        dumb = environ.get("TERM") == "dumb"
        colour = terminal and not dumb and not environ.get("NO_COLOR")
        theme = environ.get(THEME_VARIABLE, DEFAULT)
        plain = (out.encoding or "ascii").lower().replace("_", "-") not in _KNOW_ALL
        return cls(
            out,
            sys.stderr,
            _width() if terminal else None,
            colour,
            terminal and not dumb,
            theme if theme in THEMES else DEFAULT,
            plain,
        )

    def drawn(self, line: str) -> str:
        """A line with bars and the like, as far as it can be shown."""
        return in_ascii(line) if self.ascii else line

    def line(self, text: str = "") -> None:
        """One line on standard output: what was asked for."""
        self.out.write(text + "\n")

    def lines(self, lines: list[str]) -> None:
        for line in lines:
            self.line(line)
        self.out.flush()

    def note(self, text: str) -> None:
        """One line on standard error: what a person may want to know and no program reads."""
        self.err.write(text + "\n")
        self.err.flush()

    def style(self, text: str, style: str) -> str:
        """The text in a style (`bold`, `dim`, a colour), or as it is where there are no colours."""
        return styled(text, style, self.theme) if self.colour else text

    def status(self, text: str) -> str:
        """A status word, perhaps padded, in the colour of what it says."""
        return status_styled(text, self.theme) if self.colour else text

    def remeasure(self) -> None:
        """Take note of a terminal that was resized."""
        if self.width is not None and self.out is sys.stdout:
            self.width = _width()


def _width() -> int:
    return shutil.get_terminal_size().columns


def quiet_broken_pipe() -> None:
    """Point standard output at nothing, so that the interpreter's last flush does not complain of a closed pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
