"""Who may ask what, from where. Everything here looks at a request's head alone.

The source of the rules is the security page of the documentation: DNS rebinding is stopped by the list of host
names, cross-site requests by Origin, Sec-Fetch-Site and the demand for application/json, strangers by the token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address

from attrs import evolve, frozen
from twisted.web.http_headers import Headers

from retirecluster.domain.access import (
    COOKIE,
    DEVICE,
    LOOPBACK,
    NOBODY,
    PUBLIC,
    READ,
    TOKEN,
    TRUSTED_NETWORK,
    Caller,
)
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import shown
from retirecluster.main.tokens import FILE_NAME

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


Known = Callable[[str], "Caller | None"]
"""Who a token, or a cookie, belongs to; None for nobody."""
SESSION = "retire-session"


def cookie_name(secure: bool, port: int) -> str:
    """The name of the session's cookie. With TLS it has the prefix that browsers bind to this host and to https.

    Cookies do not know ports: the name does, so that two mains on one machine do not log each other out.
    """
    return f"__Host-{SESSION}-{port}" if secure else f"{SESSION}-{port}"


@frozen
class Peer:
    """The ends of a connection: the addresses of both sides, our port, and whether it is TLS."""

    address: str
    local: str = "127.0.0.1"
    port: int = 5000
    secure: bool = False


@frozen
class Guard:
    """The rules with this main's names, tokens and sessions."""

    hosts: frozenset[str]
    tokens: Known
    sessions: Known
    trusted_network: bool
    devices: Callable[[str], str | None]

    @classmethod
    def create(
        cls,
        hosts: Iterable[str],
        tokens: Known,
        *,
        trusted_network: bool,
        sessions: Known = lambda cookie: None,
        devices: Callable[[str], str | None] = lambda token: None,
    ) -> Guard:
        """`hosts` are the names by which this main may be reached, beside those of loopback.

        `devices` tells which device a token belongs to, None for none.
        """
        allowed = frozenset([*ALWAYS_ALLOWED, *map(as_host, hosts)])
        return cls(allowed, tokens, sessions, trusted_network, devices)

    def check_head(self, method: bytes, headers: Headers, peer: Peer) -> Caller:
        """Who asks, once host and origin are looked at. What that caller may do is the routes' business.

        Raises ClusterError: bad_host, forbidden, and unauthorized for a token that is nobody's.
        """
        host = self._check_host(headers, peer.local)
        caller = self.caller(headers, peer)
        if method not in SAFE_METHODS:
            _check_same_origin(headers, host, said=caller.how == COOKIE)
        return caller

    def caller(self, headers: Headers, peer: Peer) -> Caller:
        """Who asks, by token, by cookie, or by where it is. Raises ClusterError unauthorized."""
        given = _token_in(headers)
        if given is not None:
            return self._with_token(given, peer)
        found = self._with_cookie(headers, peer)
        if found is not None:
            return evolve(found, address=peer.address)
        if self.trusted_network:
            return Caller(READ, TRUSTED_NETWORK, address=peer.address)
        here = self._is_here(headers, peer.address)
        return Caller(READ if here else PUBLIC, LOOPBACK if here else NOBODY, address=peer.address)

    def _with_token(self, given: str, peer: Peer) -> Caller:
        found = self.tokens(given)
        if found is not None:
            return evolve(found, address=peer.address)
        device = self.devices(given)
        if device is None:
            # Also where none is needed: whoever shows one wants to know that it is worth nothing.
            raise ClusterError("unauthorized", "the token is not, or no longer, one of this main")
        return Caller(DEVICE, TOKEN, f"device:{device}", peer.address)

    def _with_cookie(self, headers: Headers, peer: Peer) -> Caller | None:
        # A cookie that is nobody's any more is as good as none: browsers go on sending it.
        cookie = cookie_in(headers, cookie_name(is_secure(headers, peer), peer.port))
        return None if cookie is None else self.sessions(cookie)

    def _is_here(self, headers: Headers, peer: str) -> bool:
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


def _check_same_origin(headers: Headers, host: str, *, said: bool = False) -> None:
    """A browser says where a request comes from; other pages may not change anything here.

    `said`: it has to be said, as a cookie comes along by itself whoever makes a browser ask.
    """
    origins = headers.getRawHeaders(b"Origin") or ()
    if said and not origins and (headers.getRawHeaders(b"Sec-Fetch-Site") or [b""]) != [b"same-origin"]:
        raise ClusterError("forbidden", f"with a cookie, a change needs the header Origin, here http://{host}")
    for origin in origins:
        text = origin.decode("latin-1").lower()
        if text not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise ClusterError("forbidden", f"Origin {shown(text)} is another site than {host}; changes come from here")
    for site in headers.getRawHeaders(b"Sec-Fetch-Site") or ():
        if site not in (b"same-origin", b"none"):
            raise ClusterError("forbidden", "Sec-Fetch-Site says that another site made this request")


def check_content_type(headers: Headers, *, raw: bool = False) -> None:
    """A body is JSON and says so; a `raw` one is bytes, and may leave it out. Raises ClusterError."""
    if any(each.strip().lower() != b"identity" for each in headers.getRawHeaders(b"Content-Encoding") or ()):
        raise ClusterError("unsupported_media_type", "a body with Content-Encoding is not read here: send it as it is")
    wanted = b"application/octet-stream" if raw else b"application/json"
    values = headers.getRawHeaders(b"Content-Type") or []
    media_type = values[0].partition(b";")[0].strip().lower() if values else wanted if raw else b""
    if media_type != wanted or len(values) > 1:
        given = shown(values[0].decode("latin-1")) if values else "none"
        what = f"send Content-Type: {wanted.decode()} with a body, not {given}"
        raise ClusterError("unsupported_media_type", what)


def needs_token(what: str, role: str = "admin") -> ClusterError:
    """The error for a caller who has shown nothing; says what is needed, and where it is."""
    return ClusterError(
        "unauthorized",
        f"{what} needs a token with the role {role}: send Authorization: Bearer TOKEN, or X-API-Key: TOKEN; "
        f"the admin token is the text in {FILE_NAME} in the main's data folder",
    )


def check_role(caller: Caller, role: str, what: str) -> None:
    """Raises ClusterError for a caller who may not do what needs a role: unauthorized, forbidden."""
    if caller.may(role):
        return
    if not caller.is_known:
        raise needs_token(what, role)
    raise ClusterError("forbidden", f"{what} needs the role {role}; {caller.name} has the role {caller.role}")


def is_secure(headers: Headers, peer: Peer) -> bool:
    """Whether a browser came by https: to us, or to a proxy on this machine that says so."""
    forwarded = headers.getRawHeaders(b"X-Forwarded-Proto") == [b"https"]
    return peer.secure or (forwarded and is_loopback(peer.address))


def cookie_in(headers: Headers, name: str) -> str | None:
    """The value of a cookie; None where it is not, or stands twice: then nobody knows whose it is."""
    text = b";".join(headers.getRawHeaders(b"Cookie") or ()).decode("latin-1")
    pairs = (each.strip().partition("=") for each in text.split(";"))
    found = [value for known, equals, value in pairs if known == name and equals]
    return found[0] if len(found) == 1 else None


def _token_in(headers: Headers) -> str | None:
    for value in headers.getRawHeaders(b"Authorization") or ():
        scheme, _, given = value.partition(b" ")
        if scheme.lower() == b"bearer":
            return given.strip().decode("latin-1")
    keys = headers.getRawHeaders(b"X-API-Key")
    return keys[0].decode("latin-1") if keys else None
