"""Roles, and who a caller is. A route says which role it needs; nothing else decides what a caller may do.

Roles form a line: whoever has one may also do what those before it may.
"""

from __future__ import annotations

from attrs import frozen

from retirecluster.domain.audit import Actor

PUBLIC, READ, SUBMIT, OPERATOR, ADMIN = "public", "read", "submit", "operator", "admin"
ROLES = {
    READ: "look at everything but tokens and the audit trail",
    SUBMIT: "also submit tasks, and cancel, hold, release and retry its own; upload files",
    OPERATOR: "also act on all tasks, devices, files and signals",
    ADMIN: "also tokens, devices that join, and the audit trail",
}
"""Roles of tokens, the one that may least first."""
DEVICE = "device"
"""What a device's own token is good for: the routes that say so."""
TOKEN, COOKIE, LOOPBACK, TRUSTED_NETWORK, NOBODY = "token", "cookie", "loopback", "trusted_network", "nobody"
"""How a caller is known: by a token, by the cookie of a session, by where it is, or not at all."""
_LINE = (PUBLIC, *ROLES)


@frozen
class Caller:
    """Who asks. `name` is how the audit trail calls it, `key` the SHA-256 of its token or cookie; empty: neither."""

    role: str
    how: str
    name: str = ""
    address: str = ""
    key: str = ""

    @property
    def is_known(self) -> bool:
        """Whether it has shown a token or a cookie that is good."""
        return bool(self.key)

    def may(self, role: str) -> bool:
        """Whether it may do what needs this role."""
        return self.role in _LINE and _LINE.index(self.role) >= _LINE.index(role)

    def actor(self, request_id: str) -> Actor:
        """Who it is, for the audit trail."""
        return Actor(self.name or f"peer:{self.address}", self.role, self.address, request_id)
