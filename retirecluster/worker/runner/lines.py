"""JSON lines, with an encoder that is made once: each page that a forked child does not touch is not copied."""

from __future__ import annotations

import json

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def _make_encoder() -> Callable[[object], str]:
    """The C encoder, made once: `JSONEncoder.encode` makes one for each message."""
    encoder = json.JSONEncoder(check_circular=False, allow_nan=False, separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)  # missing from the stubs
    if make is None:
        return encoder.encode
    escape = json.encoder.encode_basestring_ascii
    chunks = make(None, encoder.default, escape, None, ":", ",", False, False, False)
    return lambda value: "".join(chunks(value, 0))


_encode = _make_encoder()


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def encode_line(message: dict[str, Any]) -> bytes:
    """One message, newline included. Raises TypeError, ValueError or RecursionError for what is not JSON."""
    return (_encode(message) + "\n").encode("ascii")


def decode_line(line: bytes) -> Any:
    """The value in a line. Raises ValueError or RecursionError."""
    return _decode(line.decode("utf-8"))
