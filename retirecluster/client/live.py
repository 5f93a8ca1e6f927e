"""Lines that are redrawn in place."""

from __future__ import annotations

from attrs import define, field

from retirecluster.client.console import Console
from retirecluster.render.cells import cut
from retirecluster.render.figures import bar, painted

_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"
_CLEAR_BELOW = "\x1b[J"


@define
class LiveLines:
    """A few lines at the end of the terminal that `draw` replaces. On anything else than a terminal: nothing.

    Give plain text: it is cut to the terminal's width here, and bars get their colours after the cut.
    """

    console: Console
    _drawn: int = field(default=0, init=False)

    def draw(self, lines: list[str]) -> None:
        """Replace what was drawn before by these lines."""
        if not self.console.live:
            return
        self.console.remeasure()
        width = max(1, (self.console.width or 80) - 1)
        start = _HIDE_CURSOR if not self._drawn else f"\x1b[{self._drawn}A\r"
        text = "".join(self._coloured(cut(line, width)) + "\n" for line in lines)
        self.console.out.write(start + _CLEAR_BELOW + text)
        self.console.out.flush()
        self._drawn = len(lines)

    def _coloured(self, line: str) -> str:
        line = painted(line, self.console.theme) if self.console.colour else line
        return self.console.drawn(line)

    def finish(self) -> None:
        """Leave the lines where they are and go on below them."""
        if self._drawn:
            self.console.out.write(_SHOW_CURSOR)
            self.console.out.flush()
            self._drawn = 0

    def erase(self) -> None:
        """Take the lines away."""
        if self._drawn:
            self.console.out.write(f"\x1b[{self._drawn}A\r{_CLEAR_BELOW}{_SHOW_CURSOR}")
            self.console.out.flush()
            self._drawn = 0


__all__ = ["LiveLines", "bar"]
