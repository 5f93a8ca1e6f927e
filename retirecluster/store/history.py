"""The devices' histories in a file beside the database: written now and then, read at start. Nothing depends on it.

A line of JSON about the whole, then for each device a line of JSON and the rows of its three rings as they are in
memory. A file that is not whole, of another layout, or of a later version, is as good as none.
"""

from __future__ import annotations

import json
import os
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retirecluster.domain.history import BEGINNING_S, COLUMNS, LEVELS, WIDTH, DeviceHistory, History, Level, Ring

FORMAT = 1
WORD_BYTES = array("H").itemsize
MAX_LINE_BYTES = 65_536


def encode(history: History, now: float, wall_s: float) -> Iterator[bytes]:
    """The file's parts. `now` is the history's monotonic clock; `wall_s` (Unix) tells later how long ago that was."""
    at_s = history.beginning_s - BEGINNING_S + now
    head = {"format": FORMAT, "columns": COLUMNS, "order": sys.byteorder, "now": at_s, "wall_s": wall_s}
    yield json.dumps(head).encode() + b"\n"
    for device_id, each in history.devices.items():
        each.close_minute()
        rings = [each.minutes, each.hours, each.days]
        line = {"device": device_id, "last": [ring.last for ring in rings], "rows": [len(ring) for ring in rings]}
        yield json.dumps(line).encode() + b"\n" + b"".join(ring.rows.tobytes() for ring in rings)


def decode(data: bytes, now: float, wall_s: float) -> History:
    """The histories in a file, as old as they are by now. Raises ValueError where it makes no sense."""
    try:
        return _decode(data, now, wall_s)
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a history: {error!r}") from None


def _decode(data: bytes, now: float, wall_s: float) -> History:
    head, at = _line(data, 0)
    if head["format"] != FORMAT or tuple(head["columns"]) != COLUMNS or head["order"] != sys.byteorder:
        raise ValueError("the history has another layout")
    # A clock that was set back in between knows nothing: then no time has passed.
    at_s = head["now"] + max(0.0, wall_s - head["wall_s"])
    found = History(beginning_s=BEGINNING_S + at_s - now)
    while at < len(data):
        line, at = _line(data, at)
        rings = []
        for level, last, count in zip(LEVELS, line["last"], line["rows"], strict=True):
            ring, at = _ring(data, at, level, last, count)
            rings.append(ring)
        if line["device"] and all(ring.last >= -1 for ring in rings):
            minutes, hours, days = rings
            found.devices[line["device"]] = DeviceHistory(minutes, hours, days)
    return found


def _line(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    end = data.find(b"\n", at, at + MAX_LINE_BYTES)
    if end < 0:
        raise ValueError("the history ends too early")
    return json.loads(data[at:end]), end + 1


def _ring(data: bytes, at: int, level: Level, last: int, count: int) -> tuple[Ring, int]:
    size = count * WIDTH * WORD_BYTES
    if not 0 <= count <= level.steps or at + size > len(data) or type(last) is not int:
        raise ValueError("the history is damaged")
    return Ring(level.steps, array("H", data[at : at + size]), last), at + size


def save(path: Path, parts: list[bytes]) -> None:
    """Replace the file: there is the old one or the new one, never half of either. Raises OSError."""
    draft = path.with_name(path.name + ".new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)
