"""`retire-cluster health`: one small question, for Docker's HEALTHCHECK, scripts and timers.

No reactor, and nothing of Twisted: it is asked often, on small devices.
"""

from __future__ import annotations

import json
import os
import ssl
from argparse import Namespace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from retirecluster.client.console import Console
from retirecluster.client.settings import Given, find_connection
from retirecluster.config import default_data_dir
from retirecluster.render.cells import visible

WITHIN_S = 5.0
"""How long each step may take: whoever asks gives up after a while as well."""
MOST_BYTES = 65_536
WELL, NOT_WELL = 0, 1
"""Docker knows no other exit codes."""


def probe(console: Console, args: Namespace) -> int:
    """Ask, say what is wrong on standard error, and give the exit code."""
    found = find_connection(Given(args.server, args.token, args.token_file, args.data_dir, args.profile), os.environ)
    try:
        status, body = _asked(found.server, "/ready" if args.ready else "/health", args)
    except (OSError, HTTPException) as error:
        console.note(f"retire-cluster: {found.server} does not answer: {visible(str(error))}")
        return NOT_WELL
    if status != 200:
        console.note(f"retire-cluster: {found.server} answers {status}: {visible(_said(body))}")
        return NOT_WELL
    console.line("ok")
    return WELL


def _asked(server: str, path: str, args: Namespace) -> tuple[int, bytes]:
    """Status and body of the answer. Raises OSError or HTTPException where there is none."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    connection: HTTPConnection
    if parts.scheme == "https":
        connection = HTTPSConnection(host, parts.port, timeout=WITHIN_S, context=_trust(args))
    else:
        connection = HTTPConnection(host, parts.port, timeout=WITHIN_S)
    try:
        connection.request("GET", parts.path.rstrip("/") + path)
        answer = connection.getresponse()
        return answer.status, answer.read(MOST_BYTES)
    finally:
        connection.close()


def _trust(args: Namespace) -> ssl.SSLContext:
    """Whom to believe: the cluster's own authority where its certificate lies in the data folder, else the system's.

    The authority signs for a fixed name and not for addresses: that it signed is what is checked.
    """
    folder = Path(args.data_dir or os.environ.get("RETIRE_CLUSTER_DATA_DIR") or default_data_dir("main"))
    own = folder / "tls" / "ca.crt"
    if not own.exists():
        return ssl.create_default_context()
    context = ssl.create_default_context(cafile=str(own))
    context.check_hostname = False
    return context


def _said(body: bytes) -> str:
    """What a problem document says, or nothing."""
    try:
        document = json.loads(body)
    except ValueError:
        return ""
    return str(document.get("detail", "")) if isinstance(document, dict) else ""
