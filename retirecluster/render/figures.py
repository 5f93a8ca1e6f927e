"""Figures drawn in cells: bars of progress, gauges of load, courses of what was. `painted` gives them colours."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from retirecluster.render.styles import DEFAULT, styled

DONE, LEFT = "━", "╌"
FULL, FREE = "█", "░"
SPARKS = "▁▂▃▄▅▆▇█"
GAUGE_CELLS = 12
MUCH, TOO_MUCH = 70, 90
"""Percent from which a gauge is yellow, and red."""
_FIGURE = re.compile(r"([█░]{4,})(?= +(\d+)%)|([▁-█]{2,})|(━+)|(╌+)")


def bar(done: float, total: float, width: int) -> str:
    """A progress bar of `width` cells. Full only when all is done, empty only when nothing is."""
    return _drawn(done, total, width, DONE, LEFT)


def gauge(percent: float, width: int = GAUGE_CELLS) -> str:
    """How much of something is in use, as `███░░░░░  42%`: `width` cells and five more, for 0 to 100."""
    percent = min(100.0, max(0.0, percent))
    return f"{_drawn(percent, 100, width, FULL, FREE)} {percent:>3.0f}%"


def _drawn(done: float, total: float, width: int, full: str, free: str) -> str:
    if total <= 0:
        return free * width
    filled = min(width, int(done * width / total))
    if done > 0 and filled == 0:
        filled = 1
    if done < total:
        filled = min(filled, width - 1)
    return full * max(0, filled) + free * (width - max(0, filled))


def sparkline(values: Sequence[float | None], width: int, most: float | None = None) -> str:
    """The course of a figure from 0 to `most` (the greatest value), the newest at the right: at most `width` cells.

    More values than cells are drawn by the greatest of each few, so that no peak is lost. None is a gap.
    """
    shown = _thinned(values, max(1, width))
    top = most if most is not None else max((each for each in shown if each is not None), default=0.0)
    return "".join(_spark(each, top) for each in shown)


def _spark(value: float | None, top: float) -> str:
    if value is None:
        return " "
    step = int(min(1.0, max(0.0, value / top)) * (len(SPARKS) - 1) + 0.5) if top > 0 else 0
    return SPARKS[step]


def _thinned(values: Sequence[float | None], width: int) -> list[float | None]:
    """At most `width` values, each the greatest of as many of the given ones as the others."""
    if len(values) <= width:
        return list(values)
    share = -(-len(values) // width)
    ends = range(len(values), 0, -share)
    parts = [[each for each in values[max(0, end - share) : end] if each is not None] for end in ends]
    return [max(part) if part else None for part in reversed(parts)]


def painted(line: str, theme: str = DEFAULT) -> str:
    """The line with its figures in colours: what is nearly full is seen to be."""
    return _FIGURE.sub(_painter(theme), line)


def _painter(theme: str) -> Callable[[re.Match[str]], str]:
    def paint(found: re.Match[str]) -> str:
        if found[1]:
            percent = int(found[2])
            return styled(found[1], "red" if percent >= TOO_MUCH else "yellow" if percent >= MUCH else "green", theme)
        return styled(found[0], "dim" if found[5] else "cyan", theme)

    return paint
