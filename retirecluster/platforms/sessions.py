"""Whether somebody uses this device, as its own records tell: logged-in sessions and when each was last typed on.

A session on a terminal tells: reading from a terminal changes the file's time of access, at most every 8 seconds. A
graphical session does not; `xprintidle`, where it is installed, does. Where nothing tells, the answer is None: unknown.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from retirecluster.platforms.programs import answer_of

USER_PROCESS = 7
UTMP_BEGINNING = struct.Struct("hi32s")
"""How a record of utmp begins: type, process, terminal. What follows has two sizes, by architecture."""
UTMP_BYTES = (384, 400)
GRAPHICAL = ("x11", "wayland", "mir")
XPRINTIDLE_WITHIN_S = 2.0


def away_s(root: Path, now: float) -> float | None:
    """Seconds since the device was last used by hand; since its start if nobody is logged in. None: unknown."""
    sessions = list(_systemd_sessions(root)) if (root / "run/systemd/sessions").is_dir() else None
    if sessions is None:
        sessions = list(_utmp_sessions(root))
    if not sessions:
        return _uptime_s(root)
    idle = [_idle_s(root, terminal, graphical, now) for terminal, graphical in sessions]
    known = [each for each in idle if each is not None]
    return min(known) if len(known) == len(idle) else None


def _systemd_sessions(root: Path) -> Iterator[tuple[str, bool]]:
    """(terminal, graphical) of each session of a person (user, user-early, user-light) that systemd knows of."""
    for place in sorted((root / "run/systemd/sessions").glob("*")):
        if not place.is_file():
            continue
        rows = [line.partition("=") for line in place.read_text("utf-8", "replace").splitlines()]
        said = {name: value for name, _, value in rows}
        if not said.get("CLASS", "user").startswith("user") or said.get("STATE") == "closing":
            continue
        # A remote one without a terminal copies files, say: nobody is there.
        if said.get("REMOTE") != "1" or said.get("TTY"):
            yield said.get("TTY", ""), said.get("TYPE") in GRAPHICAL


def _utmp_sessions(root: Path) -> Iterator[tuple[str, bool]]:
    """The same from utmp. Raises OSError where there is none."""
    data = (root / "run/utmp").read_bytes()
    size = next((each for each in UTMP_BYTES if len(data) % each == 0), UTMP_BYTES[0])
    for at in range(0, len(data) - size + 1, size):
        record = UTMP_BEGINNING.unpack_from(data, at)
        if record[0] == USER_PROCESS:
            line = record[2].partition(b"\0")[0].decode("utf-8", "replace")
            yield line, line.startswith(":")


def _idle_s(root: Path, terminal: str, graphical: bool, now: float) -> float | None:
    if graphical:
        return _x_idle_s() if root == Path("/") else None
    if not terminal or ".." in terminal:
        return None
    try:
        typed_at = os.stat(root / "dev" / terminal).st_atime
    except OSError:
        return None
    return max(0.0, now - typed_at)


def _x_idle_s() -> float | None:
    if "DISPLAY" not in os.environ:
        return None
    try:
        return int(answer_of("xprintidle", within_s=XPRINTIDLE_WITHIN_S)) / 1000.0
    except (OSError, ValueError):
        return None


def _uptime_s(root: Path) -> float | None:
    return float((root / "proc/uptime").read_text("utf-8").split()[0])
