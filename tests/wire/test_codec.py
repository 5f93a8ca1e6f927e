"""The strict decoder: what it refuses, and that it otherwise agrees with json."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.codec import decode, decode_object, depth_of, encode_line

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_every_json_value_survives(value: object) -> None:
    assert decode(json.dumps(value).encode()) == value


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_a_line_has_no_newline_inside(document: dict[str, object]) -> None:
    line = encode_line(document)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert decode_object(line) == document


@given(st.binary(max_size=200))
def test_bytes_decode_or_are_refused_with_a_code(data: bytes) -> None:
    try:
        value = decode(data)
    except ClusterError as error:
        assert error.code in {"not_json", "bad_text", "bad_number", "duplicate_key", "too_deep"}
    else:
        json.dumps(value, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"{} {}", "not_json"),
        (b"NaN", "bad_number"),
        (b"[-Infinity]", "bad_number"),
        (b"1e999", "bad_number"),
        (b"9223372036854775808", "bad_number"),
        (b"-9223372036854775809", "bad_number"),
        (b"9" * 5000, "bad_number"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b'{"x": {"a": 1, "\\u0061": 2}}', "duplicate_key"),
        (b'"\\ud800"', "bad_text"),
        (b'{"\\udfff": 1}', "bad_text"),
        (b'"\xff"', "bad_text"),
        (b"[" * 33 + b"]" * 33, "too_deep"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 50_000, "too_deep"),
    ],
)
def test_refused(text: bytes, code: str) -> None:
    with pytest.raises(ClusterError) as caught:
        decode(text)
    assert caught.value.code == code
    assert len(caught.value.message) < 300


def test_limits_are_reached_exactly() -> None:
    assert decode(b"[" * 32 + b"]" * 32)
    assert decode(b"9223372036854775807") == 2**63 - 1
    assert decode(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"
    assert decode(b'"' + b"[" * 1000 + b'"') == "[" * 1000


@given(JSON)
def test_depth_is_counted_as_nested(value: object) -> None:
    def depth(node: object) -> int:
        if isinstance(node, dict):
            return 1 + max(map(depth, node.values()), default=0)
        if isinstance(node, list):
            return 1 + max(map(depth, node), default=0)
        return 0

    assert depth_of(json.dumps(value).encode()) == depth(value)


@pytest.mark.parametrize("text", [b"[]", b"1", b'"x"', b"null", b"true"])
def test_other_values_are_not_objects(text: bytes) -> None:
    with pytest.raises(ClusterError) as caught:
        decode_object(text)
    assert caught.value.code == "not_an_object"
