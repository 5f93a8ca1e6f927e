"""One HTTP request to a public address, made in the forked child.

The name is resolved here, every address is checked, and the connection goes to a checked address: a name that
resolves differently a moment later changes nothing. Redirects go through the same door. No proxies, http(s) only.
"""

from __future__ import annotations

import re
import signal
import socket
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from retirecluster.worker.runner.addresses import is_own_network, is_public

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType
    from typing import Any

__all__ = ["HTTPException", "Refused", "request"]

MAX_REDIRECTS = 5
MAX_WAIT_S = 60.0
"""For everything together: names, connections, redirects, the answer."""
MAX_HEADERS_CHARS = 4096
DEFAULT_BYTES = 65_536
OURS = frozenset({"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"})
"""Headers that say how the request travels: with these a task could make one request look like two."""
SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that are for the first target alone."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SAFE = "%/:=&?~#+!$,;'@()*[]"


class Refused(Exception):
    """The target is not one that a task may reach, or the request is not one that may be sent."""


def checked_addresses(host: str, port: int, allow_private: bool) -> list[tuple[Any, ...]]:
    """What `host` resolves to, as far as it may be reached. Raises Refused when nothing is left."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise Refused(f"{host!a} is no name of a host") from None
    allowed = [each for each in found if allow_private or _may_reach(each)]
    if not allowed:
        raise Refused(
            f"{host} is loopback, link-local, private, multicast or of this device's own network "
            f"({found[0][4][0]}); tasks reach public addresses only, unless the device's owner sets http_allow_private"
        )
    return allowed


def _may_reach(found: tuple[Any, ...]) -> bool:
    return is_public(str(found[4][0])) and not is_own_network(found[0], found[4])


def _connected(addresses: list[tuple[Any, ...]], timeout_s: float) -> socket.socket:
    """A connection to the first address that answers."""
    failure: OSError | None = None
    for family, kind, protocol, _, target in addresses:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(timeout_s)
        try:
            sock.connect(target)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise failure or OSError("no address")


def checked_url(url: str) -> SplitResult:
    """The parts of a URL that may be asked for. Raises Refused."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Refused(f"{url!a} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(f"{parts.scheme or 'that'} is not http or https, or no host is named")
    if parts.username is not None or parts.password is not None:
        raise Refused("the URL names a user or a password: send an Authorization header instead")
    if _CONTROL.search(url) or "\\" in url or " " in url:
        raise Refused(f"{url!a} has a space, a backslash or a control character: write it as %20, %5C or so")
    return parts


def checked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers that a task may send. Raises Refused."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            raise Refused(f"header {name!a}: control characters, spaces in names and line breaks are not allowed")
        if name.lower() in OURS:
            raise Refused(f"header {name}: is set by the worker; leave it out")
    return dict(headers)


def _connect(parts: SplitResult, allow_private: bool, timeout_s: float) -> HTTPConnection:
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    sock = _connected(checked_addresses(host, port, allow_private), timeout_s)
    if not secure:
        plain = HTTPConnection(host, port, timeout=timeout_s)
        plain.sock = sock
        return plain
    import ssl

    connection = HTTPSConnection(host, port, timeout=timeout_s)
    connection.sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host)
    return connection


def request(payload: dict[str, Any], options: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """The answer as status, url, headers, body. Raises Refused, OSError, HTTPException, ValueError."""
    wait_s = min(timeout_s, MAX_WAIT_S)
    before = signal.signal(signal.SIGALRM, _too_slow)
    # Timeouts of sockets begin anew with each byte; this one does not.
    signal.setitimer(signal.ITIMER_REAL, wait_s)
    try:
        return _request(payload, bool(options.get("http_allow_private")), time.monotonic() + wait_s)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError("the answer took too long")


def _request(payload: dict[str, Any], allow_private: bool, give_up_at: float) -> dict[str, Any]:
    url, method, body = payload["url"], payload.get("method") or "GET", payload.get("body")
    headers = checked_headers(payload.get("headers") or {})
    for _ in range(MAX_REDIRECTS + 1):
        parts = checked_url(url)
        connection = _connect(parts, allow_private, max(0.1, give_up_at - time.monotonic()))
        try:
            connection.request(method, _target(parts), None if body is None else body.encode("utf-8"), headers)
            response = connection.getresponse()
            place = response.getheader("Location")
            if response.status not in (301, 302, 303, 307, 308) or not place:
                return _answer(response, url, payload.get("max_bytes") or DEFAULT_BYTES)
        finally:
            connection.close()
        if (response.status == 303 and method != "HEAD") or (response.status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = _without(headers, lambda name: name.startswith("content-"))
        url = urljoin(url, place)
        if _door(url) != _door(parts.geturl()):
            headers = _without(headers, SECRET.__contains__)
    raise HTTPException(f"more than {MAX_REDIRECTS} redirects")


def _target(parts: SplitResult) -> str:
    """Path and query as they stand in the request line, in ASCII."""
    return quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_SAFE)


def _door(url: str) -> tuple[str, str]:
    """Who hears what is sent to a URL: over TLS or not, and at which host and port."""
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()


def _without(headers: dict[str, str], unwanted: Any) -> dict[str, str]:
    return {name: text for name, text in headers.items() if not unwanted(name.lower())}


def _answer(response: HTTPResponse, url: str, max_bytes: int) -> dict[str, Any]:
    data = response.read(max_bytes + 1)
    headers: dict[str, str] = {}
    room = MAX_HEADERS_CHARS
    for name, value in response.getheaders():
        room -= len(name) + len(value)
        if room >= 0:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    text = _text(data[:max_bytes], response.headers.get_content_charset() or "utf-8")
    answer: dict[str, Any] = {"status": response.status, "url": url, "headers": headers, "body": text}
    if len(data) > max_bytes:
        answer["truncated"] = True
    return answer


def _text(data: bytes, charset: str) -> str:
    """`data` as the server says it is encoded, if that is something that Python knows."""
    try:
        return data.decode(charset, "replace")
    except (LookupError, UnicodeError):
        return data.decode("utf-8", "replace")
