"""Schemas that plug-ins declare: what is understood, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.fields import Record
from retirecluster.domain.schemas import MAX_SCHEMA_CHARS, payload_type, read_schemas, schema_error, schema_problems
from retirecluster.domain.task_types import BUILT_IN

KEYWORDS = st.sampled_from(["type", "properties", "items", "enum", "required", "minimum", "maxLength", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=12,
)
THUMBNAIL: dict[str, Any] = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "minLength": 1, "description": "the picture"},
        "width": {"type": "integer", "minimum": 1, "maximum": 4096, "default": 120},
        "format": {"enum": ["png", "jpeg"]},
        "crop": {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 4, "maxItems": 4},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "sharpen": {"type": "boolean"},
        "more": {},
    },
    "required": ["file"],
    "additionalProperties": False,
}


def refused(payload: dict[str, Any]) -> list[str]:
    return [str(each) for each in schema_problems(read_schemas({"t": THUMBNAIL}).values(), payload)]


def test_payloads_are_checked_and_fields_named() -> None:
    assert refused({"file": "a", "width": 4096, "crop": [0, 0, 1, 2.5], "labels": {"a": "b"}, "more": [None]}) == []
    assert refused({}) == ["payload.file: is required: string, 1 to 1000000 characters"]
    assert refused({"file": "a", "format": "gif"}) == ["payload.format: must be one of png, jpeg; not 'gif'"]
    assert refused({"file": "a", "width": 0}) == ["payload.width: must be 1 to 4096, not 0"]
    assert refused({"file": "a", "widht": 1}) == ["payload.widht: is not a known field; did you mean width?"]
    assert refused({"file": "a", "crop": [0, 0, -1, 0]}) == ["payload.crop[2]: must be 0 to 1e+15, not -1"]


def test_a_payload_that_one_of_several_devices_takes_is_fine() -> None:
    older = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    both = list(read_schemas({"a": older, "b": THUMBNAIL}).values())
    assert schema_problems(both, {"file": "a"}) == []
    assert [each.path for each in schema_problems(both, {})] == ["payload.path"]
    assert schema_problems([*both, None], {}) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"pattern": "(a+)+$"},
            "properties.x.pattern: is not understood here; known are type, enum, minLength, maxLength",
        ),
        ({"type": "text"}, "properties.x.type: must be one of string, integer"),
        ({"type": ["string", "null"]}, "properties.x.type: must be one of"),
        ({"maxLength": -1}, "properties.x.maxLength: must be 0 to"),
        ({"maxLength": "9"}, "properties.x.maxLength: must be a whole number"),
        ({"enum": [1]}, "properties.x.enum: must be a list of strings"),
        ({"$ref": "#"}, "properties.x.$ref: is not understood"),
    ],
)
def test_what_is_not_understood_is_named(change: dict[str, Any], why: str) -> None:
    assert why in schema_error({"type": "object", "properties": {"x": {"type": "string"} | change}})


def test_bounds() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(12):
        deep = {"type": "array", "items": deep}
    assert "nested more than 8 deep" in schema_error({"type": "object", "properties": {"x": deep}})
    assert "characters" in schema_error({"type": "object", "title": "x" * MAX_SCHEMA_CHARS})
    assert "a payload is an object" in schema_error({"type": "string"})
    assert "is not one of properties" in schema_error({"type": "object", "properties": {}, "required": ["a"]})
    assert read_schemas({"good": THUMBNAIL, "bad": {"type": "null"}, "worse": 3}).keys() == {"good"}


@pytest.mark.parametrize("name", ["echo", "sleep", "system_info"])
def test_schemas_of_built_in_types_are_of_this_kind(name: str) -> None:
    again = payload_type(BUILT_IN[name].payload.json_schema())
    assert again.by_name.keys() == BUILT_IN[name].payload.by_name.keys() and again.closed


@given(JSON | JSON.map(lambda inner: {"type": "object", "properties": {"x": inner}}))
def test_whatever_a_device_tells_is_read_or_refused(told: Any) -> None:
    error = schema_error(told)
    assert isinstance(error, str)
    if not error:
        assert isinstance(payload_type(told), Record)
