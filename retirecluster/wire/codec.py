"""Strict JSON, as it is taken from wires and request bodies.

`json.loads` accepts more than other peers, SQLite and people can take: NaN, 1e999, names that stand twice,
half surrogate pairs, integers without end, nesting that exhausts the stack. `decode` refuses all of these
with one error code each; what it returns can be stored, encoded again and compared.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

from attrs import frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import MAX_INTEGER
from retirecluster.domain.tasks import encode

MAX_DEPTH = 32
MAX_LINE_BYTES = 1024 * 1024
"""The longest line, its newline not counted."""

_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"')
_BRACKETS = re.compile(rb"[][{}]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _Refused(ValueError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused("duplicate_key", f"the name {ascii(twice)[:80]} stands twice in one object")
    return found


def _integer(text: str) -> int:
    number = int(text) if len(text) < 21 else MAX_INTEGER + 1
    if not -MAX_INTEGER - 1 <= number <= MAX_INTEGER:
        raise _Refused("bad_number", f"the integer {text[:24]} is beyond 64 bits")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Refused("bad_number", f"the number {text[:24]} is too large")
    return number


def _constant(text: str) -> Any:
    raise _Refused("bad_number", f"{text} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def depth_of(data: bytes) -> int:
    """How deep lists and objects are nested in `data`, brackets in strings not counted."""
    depth = deepest = 0
    for bracket in _BRACKETS.findall(_STRINGS.sub(b"", data)):
        if bracket in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


@frozen
class OddNumber:
    """What stands for a number that is none of ours (NaN, 1e999, beyond 64 bits): no field takes it."""

    text: str

    def __repr__(self) -> str:
        return self.text


def _odd(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        try:
            return read(text)
        except _Refused:
            return OddNumber(text[:24])

    return number


_forgiving = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_odd(_integer), parse_float=_odd(_float), parse_constant=OddNumber
)


def decode(data: bytes, *, odd_numbers: bool = False) -> Any:
    """The JSON value in `data`. Raises ClusterError: bad_text, too_deep, not_json, bad_number, duplicate_key.

    With `odd_numbers`, a bad number is an `OddNumber`, so that what it is a value of can be named and left out.
    """
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and depth_of(data) > MAX_DEPTH:
        raise ClusterError("too_deep", f"lists and objects are nested deeper than {MAX_DEPTH}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ClusterError("bad_text", f"not UTF-8: byte {error.start} is {data[error.start]:#04x}") from None
    try:
        value = (_forgiving if odd_numbers else _decoder).decode(text)
    except _Refused as refused:
        raise ClusterError(refused.code, str(refused)) from None
    except json.JSONDecodeError as error:
        raise ClusterError("not_json", f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ClusterError("too_deep", f"lists and objects are nested deeper than {MAX_DEPTH}") from None
    if _SURROGATE.search(data):
        _refuse_lone_surrogates(value)
    return value


def _refuse_lone_surrogates(value: object) -> None:
    try:
        json.dumps(value, ensure_ascii=False, default=repr).encode("utf-8")
    except UnicodeEncodeError:
        raise ClusterError("bad_text", "half of a surrogate pair in a string") from None


def decode_object(data: bytes, *, odd_numbers: bool = False) -> dict[str, Any]:
    """The JSON object in `data`. Raises as `decode`, and ClusterError not_an_object."""
    value = decode(data, odd_numbers=odd_numbers)
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")
        raise ClusterError("not_an_object", f"a JSON object is needed here, not {kind}")
    return value


def encode_line(message: dict[str, Any]) -> bytes:
    """One message as a line, newline included."""
    return encode(message).encode("ascii") + b"\n"
