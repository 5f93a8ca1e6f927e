"""Who may ask what, from where. Everything here looks at a request's head alone.

The source of the rules is the security page of the documentation: DNS rebinding is stopped by the list of host
names, cross-site requests by Origin, Sec-Fetch-Site and the demand for application/json, strangers by the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from attrs import frozen
from twisted.web.http_headers import Headers

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import shown
from retirecluster.main.tokens import FILE_NAME, AdminToken

SAFE_METHODS = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that change nothing. Whatever is not in this list is taken to change something."""
ALWAYS_ALLOWED = ("localhost", "127.0.0.1", "[::1]")
_FORWARDED = (b"Forwarded", b"X-Forwarded-For")

CONSTANT_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"Content-Security-Policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        b"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)
CONSTANT_BLOCK = b"".join(name + b": " + value + b"\r\n" for name, value in CONSTANT_HEADERS)
"""Headers of every answer, ready to be sent."""
SANDBOXED_BLOCK = CONSTANT_BLOCK.replace(b"frame-ancestors 'none'", b"frame-ancestors 'none'; sandbox", 1)
"""The same for files that are somebody else's: should a browser show one, it is a page that may do nothing."""


def host_name(value: str) -> str | None:
    """The name in a Host header, without the port, in lower case; None if it is not one."""
    name, bracket, rest = value.partition("]") if value.startswith("[") else (value, "", "")
    if bracket:
        name, port = name + "]", rest
    else:
        name, colon, port = value.partition(":")
        port = colon + port
    if not name or (port and not (port[0] == ":" and port[1:].isdigit() and port.isascii())):
        return None
    return name.lower()


def as_host(name: str) -> str:
    """A configured name or address as it stands in a Host header."""
    return f"[{name}]".lower() if ":" in name and not name.startswith("[") else name.lower()


def is_loopback(address: str) -> bool:
    """Whether an address is this machine talking to itself."""
    if address in ("127.0.0.1", "::1"):
        return True
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


@frozen
class Guard:
    """The rules with this main's names and token."""

    hosts: frozenset[str]
    token: AdminToken
    trusted_network: bool
    devices: Callable[[str], str | None]

    @classmethod
    def create(
        cls,
        hosts: Iterable[str],
        token: AdminToken,
        *,
        trusted_network: bool,
        devices: Callable[[str], str | None] = lambda token: None,
    ) -> Guard:
        """`hosts` are the names by which this main may be reached, beside those of loopback.

        `devices` tells which device a token belongs to, None for none.
        """
        return cls(frozenset([*ALWAYS_ALLOWED, *map(as_host, hosts)]), token, trusted_network, devices)

    def check_head(self, method: bytes, headers: Headers, peer: str, local: str) -> None:
        """Host, origin, and the token where reading needs one. `peer` and `local` are the socket's addresses.

        Raises ClusterError: bad_host, forbidden, unauthorized.
        """
        host = self._check_host(headers, local)
        if method not in SAFE_METHODS:
            _check_same_origin(headers, host)
        if not self._may_read(headers, peer) and not self.is_admin(headers) and self.device_of(headers) is None:
            raise needs_token("reading from another machine")

    def is_admin(self, headers: Headers) -> bool:
        """Whether the request carries the admin token."""
        given = _token_in(headers)
        return given is not None and self.token.accepts(given)

    def device_of(self, headers: Headers) -> str | None:
        """The device whose token the request carries. What that is good for is the routes' business."""
        given = _token_in(headers)
        return None if given is None else self.devices(given)

    def check_token(self, headers: Headers) -> None:
        """Raises ClusterError unauthorized for a token that is nobody's, also where none is needed."""
        if _token_in(headers) is not None and not self.is_admin(headers) and self.device_of(headers) is None:
            raise ClusterError("unauthorized", "the token is not, or no longer, one of this main")

    def _may_read(self, headers: Headers, peer: str) -> bool:
        if self.trusted_network:
            return True
        # A proxy on this machine makes everybody look local; the one that says so is not taken for loopback.
        return is_loopback(peer) and not any(headers.hasHeader(name) for name in _FORWARDED)

    def _check_host(self, headers: Headers, local: str) -> str:
        values = headers.getRawHeaders(b"Host") or []
        if len(values) != 1:
            raise ClusterError("bad_host", f"one Host header is needed, there are {len(values)}")
        host = values[0].decode("latin-1")
        if host in self.hosts:
            return host
        name = host_name(host)
        # An address that is the socket's own cannot be the work of DNS.
        if name is None or (name not in self.hosts and name != as_host(local)):
            raise ClusterError(
                "bad_host",
                f"Host {shown(host)} is not a name of this server; use localhost or the address it listens on, "
                "or add the name to allowed_hosts in the main's configuration",
            )
        return host


def _check_same_origin(headers: Headers, host: str) -> None:
    """A browser says where a request comes from; other pages may not change anything here."""
    for origin in headers.getRawHeaders(b"Origin") or ():
        text = origin.decode("latin-1").lower()
        if text not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise ClusterError("forbidden", f"Origin {shown(text)} is another site than {host}; changes come from here")
    for site in headers.getRawHeaders(b"Sec-Fetch-Site") or ():
        if site not in (b"same-origin", b"none"):
            raise ClusterError("forbidden", "Sec-Fetch-Site says that another site made this request")


def check_content_type(headers: Headers, *, raw: bool = False) -> None:
    """A body is JSON and says so; a `raw` one is bytes, and may leave it out. Raises ClusterError."""
    wanted = b"application/octet-stream" if raw else b"application/json"
    values = headers.getRawHeaders(b"Content-Type") or []
    media_type = values[0].partition(b";")[0].strip().lower() if values else wanted if raw else b""
    if media_type != wanted or len(values) > 1:
        given = shown(values[0].decode("latin-1")) if values else "none"
        what = f"send Content-Type: {wanted.decode()} with a body, not {given}"
        raise ClusterError("unsupported_media_type", what)


def needs_token(what: str) -> ClusterError:
    """The error for a caller without the token; says where it is."""
    return ClusterError(
        "unauthorized",
        f"{what} needs the admin token: send Authorization: Bearer TOKEN, or X-API-Key: TOKEN; "
        f"the token is the text in {FILE_NAME} in the main's data folder",
    )


def _token_in(headers: Headers) -> str | None:
    for value in headers.getRawHeaders(b"Authorization") or ():
        scheme, _, given = value.partition(b" ")
        if scheme.lower() == b"bearer":
            return given.strip().decode("latin-1")
    keys = headers.getRawHeaders(b"X-API-Key")
    return keys[0].decode("latin-1") if keys else None
