"""Tokens of devices for the web port: each is good for one session, and for what the role `device` may do."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256

from attrs import define, field

SessionIsOpen = Callable[[str, int], bool]
"""Whether a session, by device id and number, still has its connection."""


@define(eq=False)
class DeviceTokens:
    """Tokens that were given out, by their hashes: comparing hashes tells nothing about a token by its timing."""

    is_open: SessionIsOpen
    _sessions: dict[bytes, tuple[str, int]] = field(factory=dict)
    _given: dict[str, bytes] = field(factory=dict)

    def issue(self, device_id: str, session_no: int) -> str:
        """A new token for a session; the device's older ones are void."""
        token = secrets.token_urlsafe(32)
        self._sessions.pop(self._given.get(device_id, b""), None)
        self._given[device_id] = _digest(token)
        self._sessions[_digest(token)] = (device_id, session_no)
        return token

    def device_of(self, token: str) -> str | None:
        """The device whose session a token belongs to; None once that session is over, and for anything else."""
        found = self._sessions.get(_digest(token))
        return found[0] if found is not None and self.is_open(*found) else None


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "replace")).digest()
