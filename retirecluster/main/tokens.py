"""The admin token: made at first start, kept in the data folder for the owner alone."""

from __future__ import annotations

import hmac
import os
import secrets
from hashlib import sha256
from pathlib import Path

from attrs import frozen

FILE_NAME = "admin.token"


@frozen
class AdminToken:
    """Compares what a caller gives with the token, in constant time."""

    _token: bytes

    @classmethod
    def load(cls, folder: Path) -> AdminToken:
        """The token of a data folder; made if there is none yet."""
        path = folder / FILE_NAME
        if not path.exists() or not path.read_text().strip():
            temporary = path.with_suffix(".new")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(32))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        return cls(path.read_text().strip().encode())

    @property
    def digest(self) -> str:
        """Its SHA-256, as other tokens are known by."""
        return sha256(self._token).hexdigest()

    def accepts(self, given: object) -> bool:
        """True for the token itself, as text."""
        return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), self._token)
