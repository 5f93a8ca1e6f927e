"""A few blocking requests to a main whose authority is pinned: for signing in, before there is a profile.

Nothing secret is sent before the other side has proved that its certificate comes from the pinned authority.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen

from retirecluster.client.problems import error_from_response, unreachable
from retirecluster.domain.errors import ClusterError
from retirecluster.tls import SERVER_NAME, Identity, ca_hash, unverified_context

TIMEOUT_S = 10.0
MAX_CA_BYTES = 65_536
UNKNOWN = (
    "its certificate comes from no authority that is known here: on the main, `retire-cluster ca show` prints a hash; "
    "then retire-cluster login SERVER --ca-hash HASH, or use a whole login link"
)


class _PinnedConnection(HTTPSConnection):
    """Every main has the same name in its certificate, whatever its address is."""

    def __init__(self, host: str, port: int | None, timeout_s: float, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=timeout_s, context=context)
        self._pinned = context

    def connect(self) -> None:
        """Connect, and shake hands with the name that all mains have."""
        HTTPConnection.connect(self)
        self.sock = self._pinned.wrap_socket(self.sock, server_hostname=SERVER_NAME)


def connection_to(server: str, ca: str, timeout_s: float = TIMEOUT_S) -> HTTPConnection:
    """A connection, not open yet, that trusts `ca` alone; the authorities of this computer where it is empty."""
    parts = urlsplit(server)
    host, port = parts.hostname or "", parts.port
    if parts.scheme != "https":
        return HTTPConnection(host, port, timeout=timeout_s)
    if not ca:
        return HTTPSConnection(host, port, timeout=timeout_s)
    return _PinnedConnection(host, port, timeout_s, Identity(ca).context())


def fetch_ca(server: str, pinned: str) -> str:
    """The authority's certificate (PEM) with this hash, as the main itself shows it. Sends nothing of a secret.

    Raises ClusterError: unreachable, unauthorized where it shows another.
    """
    parts = urlsplit(server)
    connection = HTTPSConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S, context=unverified_context())
    try:
        connection.request("GET", "/ca.crt")
        text = connection.getresponse().read(MAX_CA_BYTES).decode("ascii", "replace")
    except (OSError, HTTPException) as error:
        raise unreachable(server, _why(error)) from None
    finally:
        connection.close()
    try:
        found = ca_hash(text)
    except ValueError:
        found = "none"
    if found != pinned.lower():
        what = f"the main at {server} has another authority ({found}) than the one that was named ({pinned})"
        raise ClusterError("unauthorized", f"{what}: nothing was sent; get a new link from the right main")
    return text


@frozen
class Answer:
    """The `data` of an answer, and the cookie that it sets (empty: none)."""

    data: Any
    cookie: str = ""


def ask(
    server: str,
    ca: str,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """One request. Raises ClusterError as the main says, or unreachable."""
    connection = connection_to(server, ca, timeout_s)
    sent = {"Accept": "application/json", "User-Agent": "retire-cluster", **(headers or {})}
    data = None
    if body is not None:
        data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
    try:
        connection.request(method, path, data, sent)
        response = connection.getresponse()
        status, content = response.status, response.read()
    except ssl.SSLCertVerificationError as error:
        why = UNKNOWN if not ca else f"its certificate is not of the pinned authority: {error.verify_message}"
        raise ClusterError(
            "unauthorized", f"the main at {server} is not trusted, and was told nothing: {why}"
        ) from None
    except (OSError, HTTPException) as error:
        raise unreachable(server, _why(error)) from None
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise error_from_response(status, content, server, "Authorization" in sent)
    cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
    return Answer(json.loads(content).get("data"), cookie)


def _why(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error) or type(error).__name__
