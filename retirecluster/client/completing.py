"""`retire-cluster complete -- LINE`: what the shells' completion asks at each Tab.

It has to be quick, and must never be in the way: names of devices and tasks are asked of the main with a short
deadline, and where that fails there are none. The reactor and treq take longer to import than a Tab may take.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

from retirecluster.client.console import Console
from retirecluster.client.profiles import Profiles
from retirecluster.client.settings import Connection, Given, find_connection
from retirecluster.domain.commands.completion import complete
from retirecluster.domain.commands.model import CLI
from retirecluster.domain.commands.scripts import FILES
from retirecluster.domain.errors import ClusterError
from retirecluster.render.cells import visible

DEADLINE_S = 1.5
OFFERED = 50
_ASKED = {
    "devices": ("devices", "devices", "device_id"),
    "tasks": (f"tasks?limit={OFFERED}", "tasks", "task_id"),
    "types": ("tasks/types", "types", "task_type"),
    "signals": ("signals", "signals", "name"),
}
"""For each list: the address, the member with the list, and the member with the name."""
_GIVEN = ("--server", "--token", "--token-file", "--data-dir", "--profile")


def complete_words(console: Console, words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the candidates, one a line, each with its meaning after a tab. Never fails: 0."""
    line = words[-1] if words else ""
    # The first word is this program, by whatever name.
    start = len(line) - len(line.lstrip())
    after = line.find(" ", start)
    typed = "" if after < 0 else line[after + 1 :]
    found = complete(typed, len(typed), {}, CLI)
    if found.lookup in _ASKED:
        names = {found.lookup: _names(found.lookup, _given(typed), environ)}
        found = complete(typed, len(typed), names, CLI)
    elif found.lookup == "profiles":
        found = complete(typed, len(typed), {"profiles": _profiles(environ)}, CLI)
    for each in found.candidates:
        console.line(f"{visible(each.text)}\t{visible(each.doc)}")
    if found.lookup == "files" and not found.candidates:
        console.line(FILES)
    return 0


def _given(typed: str) -> Given:
    """Which main the line names."""
    try:
        words = shlex.split(typed)
    except ValueError:
        words = typed.split()
    found: dict[str, str] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        if flag in _GIVEN:
            found[flag] = value if equals else following
    return Given(*(found.get(flag) for flag in _GIVEN))


def _names(lookup: str, given: Given, environ: Mapping[str, str]) -> list[str]:
    address, member, name = _ASKED[lookup]
    try:
        connection = find_connection(given, environ)
        headers = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
        if connection.ca:
            return [str(each[name]) for each in _asked_safely(connection, address, headers)[member]]
        request = Request(f"{connection.server}/api/v1/{address}", headers=headers)
        # No proxies, as everywhere in this client: the token is the main's alone.
        with build_opener(ProxyHandler({})).open(request, timeout=DEADLINE_S) as response:
            document: Any = json.loads(response.read(4 * 1024 * 1024))
        return [str(each[name]) for each in document["data"][member]]
    except (OSError, ValueError, KeyError, TypeError, ClusterError):
        return []


def _asked_safely(connection: Connection, address: str, headers: dict[str, str]) -> Any:
    from retirecluster.client.pinning import ask

    path = f"/api/v1/{address}"
    return ask(connection.server, connection.ca, "GET", path, headers=headers, timeout_s=DEADLINE_S).data


def _profiles(environ: Mapping[str, str]) -> list[str]:
    try:
        return sorted(Profiles.load(environ).by_name)
    except ClusterError:
        return []
