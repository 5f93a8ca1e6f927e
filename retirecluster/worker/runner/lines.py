"""JSON lines, with an encoder that is made once: each page that a forked child does not touch is not copied."""

from __future__ import annotations

import json

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from typing import Any

_encode = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder().decode


def encode_line(message: dict[str, Any]) -> bytes:
    """One message, newline included. Raises TypeError, ValueError or RecursionError for what is not JSON."""
    return (_encode(message) + "\n").encode("ascii")


def decode_line(line: bytes) -> Any:
    """The value in a line. Raises ValueError or RecursionError."""
    return _decode(line.decode("utf-8"))
