"""JSON Schemas that plug-ins declare for their payloads, read into the types that everything else is checked with.

A subset of JSON Schema: types, ranges, lengths, strings to choose from, lists and objects. No patterns but our own of
a line: a device tells its schemas to the main, and a regular expression from outside could keep the main busy for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from attrs import frozen

from retirecluster.domain.fields import (
    MAX_INTEGER,
    MISSING,
    ONE_LINE,
    AnyObject,
    Anything,
    Boolean,
    Field,
    FieldType,
    Integer,
    ListOf,
    MapOf,
    Number,
    Problem,
    Record,
    Text,
    shown,
    shown_name,
)

MAX_SCHEMA_CHARS = 16_384
MAX_SCHEMAS = 256
MAX_DEPTH = 8
MAX_TEXT_CHARS = 1_000_000
MAX_NUMBER = 1e15
COMMENTS = frozenset({"$schema", "$id", "title", "description", "default", "examples", "$comment"})
"""Keywords that say nothing about what is allowed."""


class SchemaError(ValueError):
    """A schema that cannot be read; the text names the place and what is allowed there."""


Reader = Callable[[Mapping[str, Any], str, int], FieldType]


def payload_type(schema: object) -> Record:
    """The payload that a schema describes. Raises SchemaError."""
    if not isinstance(schema, Mapping):
        raise SchemaError(f"a schema must be an object, not {shown(schema)}")
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
        raise SchemaError(f"a schema may have {MAX_SCHEMA_CHARS} characters as JSON")
    found = _type(schema, "", 0)
    if not isinstance(found, Record):
        raise SchemaError('type: a payload is an object with "properties"')
    return found


def schema_error(schema: object) -> str:
    """Why a schema cannot be read; empty if it can."""
    try:
        payload_type(schema)
    except SchemaError as error:
        return str(error)
    return ""


@frozen
class PayloadSchema:
    """A schema as a device told it, and the type that it stands for."""

    document: Mapping[str, Any]
    payload: Record


def read_schemas(told: Mapping[str, Any] | None) -> dict[str, PayloadSchema]:
    """The schemas by task type that a device told, without those that cannot be read: these check nothing."""
    found = {}
    for name, document in (told or {}).items():
        try:
            found[name] = PayloadSchema(document, payload_type(document))
        except SchemaError:
            continue
    return found


def schema_problems(
    schemas: Iterable[PayloadSchema | None], payload: dict[str, Any], path: str = "payload"
) -> list[Problem]:
    """What is wrong with a payload by the schemas of those who offer its type: nothing if one of them takes it.

    None stands for one who offers the type and has told no schema.
    """
    first: list[Problem] = []
    for schema in schemas:
        problems = schema.payload.problems(payload, path) if schema is not None else []
        if not problems:
            return []
        first = first or problems
    return first


def _type(schema: object, path: str, depth: int) -> FieldType:
    if not isinstance(schema, Mapping):
        raise SchemaError(f"{path}: a schema must be an object, not {shown(schema)}")
    if depth > MAX_DEPTH:
        raise SchemaError(f"{path}: is nested more than {MAX_DEPTH} deep")
    kind = schema.get("type", "string" if "enum" in schema else None)
    if kind is None:
        _only(schema, path, ())
        return Anything()
    reader = READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        raise SchemaError(f"{path}type: must be one of {', '.join(READERS)}, not {shown(kind)}")
    return reader(schema, path, depth)


def _only(schema: Mapping[str, Any], path: str, allowed: tuple[str, ...]) -> None:
    for name in schema:
        if name not in allowed and name not in COMMENTS and name != "type":
            known = ", ".join(("type", *allowed))
            raise SchemaError(f"{path}{shown_name(str(name))}: is not understood here; known are {known}")


def _number(schema: Mapping[str, Any], path: str, name: str, default: float, whole: bool) -> Any:
    value = schema.get(name, default)
    if type(value) is not int and (whole or type(value) is not float):
        raise SchemaError(f"{path}{name}: must be a {'whole ' if whole else ''}number, not {shown(value)}")
    return value


def _count(schema: Mapping[str, Any], path: str, name: str, default: int) -> int:
    value = _number(schema, path, name, default, True)
    if not 0 <= value <= MAX_TEXT_CHARS:
        raise SchemaError(f"{path}{name}: must be 0 to {MAX_TEXT_CHARS}, not {shown(value)}")
    return int(value)


def _text(schema: Mapping[str, Any], path: str, depth: int) -> Text:
    one_line = schema.get("pattern") == ONE_LINE
    _only(schema, path, ("enum", "minLength", "maxLength", *(["pattern"] if one_line else [])))
    choices = schema.get("enum", ())
    if not isinstance(choices, (list, tuple)) or not all(isinstance(each, str) for each in choices):
        raise SchemaError(f"{path}enum: must be a list of strings")
    longest = _count(schema, path, "maxLength", MAX_TEXT_CHARS)
    return Text(longest, _count(schema, path, "minLength", 0), tuple(choices), multiline=not one_line)


def _integer(schema: Mapping[str, Any], path: str, depth: int) -> Integer:
    _only(schema, path, ("minimum", "maximum"))
    least = _number(schema, path, "minimum", -MAX_INTEGER, True)
    return Integer(least, _number(schema, path, "maximum", MAX_INTEGER, True))


def _float(schema: Mapping[str, Any], path: str, depth: int) -> Number:
    _only(schema, path, ("minimum", "maximum"))
    least = _number(schema, path, "minimum", -MAX_NUMBER, False)
    return Number(least, _number(schema, path, "maximum", MAX_NUMBER, False))


def _boolean(schema: Mapping[str, Any], path: str, depth: int) -> Boolean:
    _only(schema, path, ())
    return Boolean()


def _list(schema: Mapping[str, Any], path: str, depth: int) -> ListOf:
    _only(schema, path, ("items", "minItems", "maxItems"))
    items = _type(schema.get("items", {}), f"{path}items.", depth + 1)
    return ListOf(items, _count(schema, path, "maxItems", 100_000), _count(schema, path, "minItems", 0))


def _object(schema: Mapping[str, Any], path: str, depth: int) -> FieldType:
    _only(schema, path, ("properties", "required", "additionalProperties"))
    more = schema.get("additionalProperties", True)
    properties = schema.get("properties")
    if properties is None and depth:
        return AnyObject() if isinstance(more, bool) else MapOf(_type(more, f"{path}additionalProperties.", depth + 1))
    if not isinstance(properties or {}, Mapping) or not isinstance(more, bool):
        raise SchemaError(f"{path}properties: must be an object, and additionalProperties beside it true or false")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(each, str) for each in required):
        raise SchemaError(f"{path}required: must be a list of names")
    if missing := sorted(set(required) - set(properties or {})):
        raise SchemaError(f"{path}required: {shown(missing[0])} is not one of properties")
    fields = [_field(str(name), inner, name in required, path, depth) for name, inner in (properties or {}).items()]
    return Record(tuple(fields), closed=not more)


def _field(name: str, schema: object, required: bool, path: str, depth: int) -> Field:
    kind = _type(schema, f"{path}properties.{shown_name(name)}.", depth + 1)
    assert isinstance(schema, Mapping)
    doc = schema.get("description", "")
    default = schema.get("default", MISSING)
    return Field(name, kind, doc if isinstance(doc, str) else "", required, default=default)


READERS: dict[str, Reader] = {
    "string": _text,
    "integer": _integer,
    "number": _float,
    "boolean": _boolean,
    "array": _list,
    "object": _object,
}
