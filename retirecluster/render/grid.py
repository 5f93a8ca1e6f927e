"""Devices as a grid: each with its state, its name and its load, as many side by side as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from retirecluster.render.cells import cut, pad, visible
from retirecluster.render.columns import Document
from retirecluster.render.figures import gauge, painted
from retirecluster.render.styles import DEFAULT, STATUS_STYLES, styled

MARKS = {"online": "●", "paused": "◐", "draining": "◐", "cordoned": "◐", "offline": "○", "disconnected": "○"}
OTHER_MARK = "◌"
NAME_CELLS, LOAD_CELLS = 18, 6
_GAP = "   "
_CELL = 2 + NAME_CELLS + 1 + LOAD_CELLS + 5
"""Cells of one device: mark and blank, name, blank, gauge with its percents."""
MOST_COLUMNS = 6


def grid_lines(devices: Sequence[Document], width: int | None, colour: bool = False, theme: str = DEFAULT) -> list[str]:
    """The lines of the grid, none wider than `width` cells."""
    room = 100 if width is None else max(1, width)
    columns = min(MOST_COLUMNS, max(1, (room + len(_GAP)) // (_CELL + len(_GAP))))
    cells = [_cell(each, min(_CELL, room), colour, theme) for each in devices]
    return [_GAP.join(cells[at : at + columns]).rstrip(" ") for at in range(0, len(cells), columns)]


def _cell(device: Document, room: int, colour: bool, theme: str) -> str:
    status, load = str(device.get("status") or ""), device.get("cpu_usage")
    state = "" if status == "online" else status
    shown = gauge(load, LOAD_CELLS) if isinstance(load, int | float) and not state else pad(state, LOAD_CELLS + 5)
    name = pad(visible(str(device.get("device_id") or "")), NAME_CELLS)
    head = cut(f"{MARKS.get(status, OTHER_MARK)} {name}", room)
    if room < _CELL:
        head, tail = head.rstrip(" "), ""
    else:
        tail = f" {shown}"
    if not colour:
        return head + tail
    return styled(head, STATUS_STYLES.get(status, ""), theme) + painted(tail, theme)
