"""One HTTP request to a public address, made in the forked child.

The name is resolved here, every address is checked, and the connection goes to a checked address: a name that
resolves differently a moment later changes nothing. Redirects go through the same door. No proxies, http(s) only.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, urljoin, urlsplit

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

__all__ = ["HTTPException", "Refused", "request"]

MAX_REDIRECTS = 5
MAX_WAIT_S = 60.0
MAX_HEADERS_CHARS = 4096
DEFAULT_BYTES = 65_536
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Refused(Exception):
    """The target is not one that a task may reach."""


def is_public(text: str) -> bool:
    """True for an address of the public internet, whatever it is wrapped in."""
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address.teredo is not None:
            inner = address.teredo[1]
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast


def checked_addresses(host: str, port: int, allow_private: bool) -> list[tuple[Any, ...]]:
    """What `host` resolves to, as far as it may be reached. Raises Refused when nothing is left."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    allowed = [each for each in found if allow_private or is_public(str(each[4][0]))]
    if not allowed:
        raise Refused(
            f"{host} is loopback, link-local, private or multicast ({found[0][4][0]}); tasks reach public addresses "
            "only, unless the device's owner sets http_allow_private"
        )
    return allowed


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


def _connect(parts: SplitResult, allow_private: bool, timeout_s: float) -> HTTPConnection:
    host = parts.hostname
    if parts.scheme not in ("http", "https") or not host:
        raise Refused(f"{parts.scheme or 'that'} is not http or https, or no host is named")
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
    url, method = payload["url"], payload.get("method") or "GET"
    headers = dict(payload.get("headers") or {})
    body = payload.get("body")
    give_up_at = time.monotonic() + min(timeout_s, MAX_WAIT_S)
    for _ in range(MAX_REDIRECTS + 1):
        parts = urlsplit(url)
        wait_s = max(0.1, give_up_at - time.monotonic())
        connection = _connect(parts, bool(options.get("http_allow_private")), wait_s)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, body.encode("utf-8") if body is not None else None, headers)
        response = connection.getresponse()
        place = response.getheader("Location")
        if response.status not in (301, 302, 303, 307, 308) or not place:
            return _answer(response, url, payload.get("max_bytes") or DEFAULT_BYTES)
        connection.close()
        if response.status in (301, 302, 303) and method != "HEAD":
            method, body = "GET", None
        next_url = urljoin(url, place)
        if urlsplit(next_url).netloc != parts.netloc:
            headers = {name: text for name, text in headers.items() if name.lower() not in ("authorization", "cookie")}
        url = next_url
    raise HTTPException(f"more than {MAX_REDIRECTS} redirects")


def _answer(response: HTTPResponse, url: str, max_bytes: int) -> dict[str, Any]:
    data = response.read(max_bytes + 1)
    charset = response.headers.get_content_charset() or "utf-8"
    try:
        text = data[:max_bytes].decode(charset, "replace")
    except LookupError:
        text = data[:max_bytes].decode("utf-8", "replace")
    headers: dict[str, str] = {}
    room = MAX_HEADERS_CHARS
    for name, value in response.getheaders():
        room -= len(name) + len(value)
        if room >= 0:
            headers[name] = value
    answer: dict[str, Any] = {"status": response.status, "url": url, "headers": headers, "body": text}
    if len(data) > max_bytes:
        answer["truncated"] = True
    return answer
