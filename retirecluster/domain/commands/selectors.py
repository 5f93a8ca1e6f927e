"""Which devices or tasks a word means: `last`, `all`, `1-10`, or an id or the beginning of one.

Numbers are rows of the last listing of the session, counted from 1. The session is the terminal's: the answer to a
listing says what was listed (`Listing`), and the terminal sends that back with the next line. Where there is no
session (a shell, a bare request), numbers mean nothing, and say so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attrs import frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import nearest, shown

LAST, ALL = "last", "all"
DEVICES, TASKS = "devices", "tasks"
_ROWS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_ONE = {DEVICES: "device", TASKS: "task"}
SHOWN = 5


@frozen
class Listing:
    """What was listed last: `devices` or `tasks`, and their ids, row by row."""

    kind: str
    ids: tuple[str, ...]


def rows(word: str, kind: str, listing: Listing | None) -> list[str] | None:
    """The ids of the rows that a word names; None if it does not name rows. Raises ClusterError."""
    found = _ROWS.fullmatch(word)
    if found is None:
        return None
    if listing is None:
        raise ClusterError(
            "bad_field",
            f"{word} is a row of the last listing, and there is none here; list {kind} first in a terminal, or name "
            f"the {_ONE[kind]} by its id",
        )
    if listing.kind != kind:
        raise ClusterError("bad_field", f"{word}: the last listing was of {listing.kind}; list {kind} first")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= len(listing.ids):
        raise ClusterError("not_found", f"{word}: the last listing has the rows 1 to {len(listing.ids)}")
    return list(listing.ids[first - 1 : last])


def device_named(word: str, known: Sequence[str]) -> str:
    """The device of that id, or the one whose id begins so. Raises ClusterError: not_found, ambiguous."""
    if word in known:
        return word
    found = [each for each in known if each.startswith(word)]
    if len(found) == 1:
        return found[0]
    some = ", ".join((found or list(known))[:SHOWN]) + (", ..." if len(found or known) > SHOWN else "")
    if found:
        raise ClusterError("ambiguous", f"{shown(word)} is the start of several devices: {some}; write more of it")
    near = nearest(word, known)
    hint = f"did you mean {near}?" if near else f"known are {some}" if some else "none has registered yet"
    raise ClusterError("not_found", f"no device is called {shown(word)}; {hint}")


def devices_named(words: Sequence[str], known: Sequence[str], listing: Listing | None) -> list[str]:
    """The ids of the devices that words name, each once, in order."""
    chosen: dict[str, None] = {}
    for word in words:
        # An id that looks like a row is still an id.
        some = [word] if word in known else rows(word, DEVICES, listing)
        if some is None:
            some = list(known) if word == ALL else [device_named(word, known)]
        for device_id in some:
            if device_id not in known:
                raise ClusterError("not_found", f"{device_id}, row {word} of the last listing, is no longer there")
            chosen[device_id] = None
    return list(chosen)
