"""How data from outside is described and checked.

One description serves validation, the generated reference pages, JSON Schema and the tests' random data:
a `Record` is a list of `Field`s, a `Field` has a name and a type, and each type checks one value. Checking
never changes a value and never stops at the first mistake: it collects `Problem`s, each with the path of
the field, what is allowed, and what was there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from attrs import field, frozen

MAX_INTEGER = 2**63 - 1
"""The largest integer that every part of the system (JSON peers, SQLite) keeps exactly."""

ONE_LINE = r"^(?:[^\p{C}\p{Z}]| )*$"
"""What `str.isprintable` takes, as JSON Schema writes it (ECMA 262): no control characters, no blank but the space."""

MISSING: Any = object()
"""The default of a field that has none."""


@frozen
class Problem:
    """One thing wrong with one field: `path` as in `hardware_specs.cpu_cores`, `message` for a person."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


Problems = list[Problem]


def shown(value: object, limit: int = 60) -> str:
    """A value as it may stand in an error message: short, on one line, control characters escaped."""
    text = ascii(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def shown_name(name: str) -> str:
    """A name from outside as it may stand in a path: as it is, unless it is long or has control characters."""
    return name if len(name) <= 60 and name.isprintable() else shown(name)


@frozen
class Text:
    """A string. `choices` is the complete list of allowed values; `pattern` is described by `pattern_doc`."""

    max_length: int = 1024
    min_length: int = 0
    choices: tuple[str, ...] = ()
    pattern: str = ""
    pattern_doc: str = ""
    multiline: bool = False

    def check(self, value: object, path: str, problems: Problems) -> None:
        if not isinstance(value, str):
            problems.append(Problem(path, f"must be a string, not {shown(value)}"))
        elif self.choices:
            if value not in self.choices:
                problems.append(Problem(path, f"must be one of {', '.join(self.choices)}; not {shown(value)}"))
        elif not self.min_length <= len(value) <= self.max_length:
            problems.append(Problem(path, f"must have {self.describe_length()}, has {len(value)}"))
        elif self.pattern and not re.fullmatch(self.pattern, value):
            problems.append(Problem(path, f"must be {self.pattern_doc or self.pattern}; not {shown(value)}"))
        elif not self.multiline and not value.isprintable():
            problems.append(Problem(path, f"must not contain control characters: {shown(value)}"))

    def describe_length(self) -> str:
        if self.min_length:
            return f"{self.min_length} to {self.max_length} characters"
        return f"at most {self.max_length} characters"

    def describe(self) -> str:
        if self.choices:
            return " | ".join(f"`{choice}`" for choice in self.choices)
        return self.pattern_doc or f"string, {self.describe_length()}"

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {"type": "string"}
        if self.choices:
            return schema | {"enum": list(self.choices)}
        schema |= {"maxLength": self.max_length}
        if self.min_length:
            schema["minLength"] = self.min_length
        if self.pattern:
            schema["pattern"] = f"^(?:{self.pattern})$"
        elif not self.multiline:
            schema["pattern"] = ONE_LINE
        return schema


@frozen
class Integer:
    """A whole number; true and false are not numbers here, and 3.0 is not whole."""

    minimum: int = 0
    maximum: int = MAX_INTEGER

    def check(self, value: object, path: str, problems: Problems) -> None:
        if type(value) is not int:
            problems.append(Problem(path, f"must be a whole number, not {shown(value)}"))
        elif not self.minimum <= value <= self.maximum:
            problems.append(Problem(path, f"must be {self.minimum} to {self.maximum}, not {shown(value)}"))

    def describe(self) -> str:
        if self.maximum == MAX_INTEGER:
            return f"integer, at least {self.minimum}"
        return f"integer, {self.minimum} to {self.maximum}"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@frozen
class Number:
    """A finite number, whole or not."""

    minimum: float = 0
    maximum: float = 1e15

    def check(self, value: object, path: str, problems: Problems) -> None:
        if type(value) is not float and type(value) is not int:
            problems.append(Problem(path, f"must be a number, not {shown(value)}"))
        elif not self.minimum <= value <= self.maximum:  # also false for NaN
            allowed = f"{self.minimum:g} to {self.maximum:g}"
            problems.append(Problem(path, f"must be {allowed}, not {shown(value)}"))

    def describe(self) -> str:
        if self.maximum >= 1e15:
            return f"number, at least {self.minimum:g}"
        return f"number, {self.minimum:g} to {self.maximum:g}"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "number", "minimum": self.minimum, "maximum": self.maximum}


@frozen
class Boolean:
    """true or false."""

    def check(self, value: object, path: str, problems: Problems) -> None:
        if not isinstance(value, bool):
            problems.append(Problem(path, f"must be true or false, not {shown(value)}"))

    def describe(self) -> str:
        return "true | false"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@frozen
class ListOf:
    """A list whose items all have one type."""

    items: FieldType
    max_items: int = 1024
    min_items: int = 0

    def check(self, value: object, path: str, problems: Problems) -> None:
        if not isinstance(value, list):
            problems.append(Problem(path, f"must be a list, not {shown(value)}"))
        elif not self.min_items <= len(value) <= self.max_items:
            allowed = f"{self.min_items} to {self.max_items} items"
            problems.append(Problem(path, f"must have {allowed}, has {len(value)}"))
        else:
            check = self.items.check
            for index, item in enumerate(value):
                check(item, f"{path}[{index}]", problems)

    def describe(self) -> str:
        return f"list of {self.items.describe()}"

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "array",
            "items": self.items.json_schema(),
            "maxItems": self.max_items,
        }
        return schema | ({"minItems": self.min_items} if self.min_items else {})


@frozen
class MapOf:
    """An object with free names whose values all have one type, such as labels or environment variables."""

    values: FieldType
    max_items: int = 256
    name: Text = Text(max_length=256, min_length=1)

    def check(self, value: object, path: str, problems: Problems) -> None:
        if not isinstance(value, dict):
            problems.append(Problem(path, f"must be an object, not {shown(value)}"))
        elif len(value) > self.max_items:
            problems.append(Problem(path, f"must have at most {self.max_items} names, has {len(value)}"))
        else:
            for name, item in value.items():
                self.name.check(name, f"{path}.{shown_name(name)}", problems)
                self.values.check(item, f"{path}.{shown_name(name)}", problems)

    def describe(self) -> str:
        return f"object of {self.values.describe()}"

    def json_schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "additionalProperties": self.values.json_schema(),
            "propertyNames": self.name.json_schema(),
            "maxProperties": self.max_items,
        }


@frozen
class Anything:
    """Any JSON value; what it means is somebody else's business (the task type's, say)."""

    doc: str = "any JSON value"

    def check(self, value: object, path: str, problems: Problems) -> None:
        pass

    def describe(self) -> str:
        return self.doc

    def json_schema(self) -> dict[str, Any]:
        return {}


@frozen
class AnyObject:
    """Any JSON object."""

    def check(self, value: object, path: str, problems: Problems) -> None:
        if not isinstance(value, dict):
            problems.append(Problem(path, f"must be an object, not {shown(value)}"))

    def describe(self) -> str:
        return "object"

    def json_schema(self) -> dict[str, Any]:
        return {"type": "object"}


@frozen
class OneOf:
    """Any of several types, tried in order; the first one's complaint is the one shown."""

    types: tuple[FieldType, ...]

    def check(self, value: object, path: str, problems: Problems) -> None:
        attempts: list[Problems] = []
        for each in self.types:
            found: Problems = []
            each.check(value, path, found)
            if not found:
                return
            attempts.append(found)
        problems.append(Problem(path, f"must be {self.describe()}; not {shown(value)}"))

    def describe(self) -> str:
        return " or ".join(each.describe() for each in self.types)

    def json_schema(self) -> dict[str, Any]:
        return {"anyOf": [each.json_schema() for each in self.types]}


@frozen
class Field:
    """One named field of a `Record`.

    A field that is not `required` may be left out; `nullable` ones may also be null, which means the same.
    """

    name: str
    type: FieldType
    doc: str = ""
    required: bool = False
    nullable: bool = False
    default: Any = MISSING


def _by_name(fields: Sequence[Field]) -> dict[str, Field]:
    return {each.name: each for each in fields}


@frozen
class Record:
    """An object with known fields. With `closed`, a name that is not known is a mistake; else it is ignored."""

    fields: tuple[Field, ...]
    closed: bool = False
    by_name: Mapping[str, Field] = field(init=False, repr=False, eq=False)
    required: frozenset[str] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "by_name", _by_name(self.fields))
        object.__setattr__(self, "required", frozenset(each.name for each in self.fields if each.required))

    def check(self, value: object, path: str, problems: Problems) -> None:
        if not isinstance(value, dict):
            problems.append(Problem(path, f"must be an object, not {shown(value)}"))
            return
        prefix = f"{path}." if path else ""
        by_name = self.by_name
        for name, item in value.items():
            known = by_name.get(name)
            if known is None:
                if self.closed:
                    problems.append(Problem(prefix + shown_name(name), self.unknown(name)))
            elif item is not None or not known.nullable:
                known.type.check(item, prefix + name, problems)
        if not self.required <= value.keys():
            for name in sorted(self.required - value.keys()):
                problems.append(Problem(prefix + name, f"is required: {by_name[name].type.describe()}"))

    def unknown(self, name: str) -> str:
        """What to say of a name that is not in the table, with the nearest one that is."""
        near = nearest(name, self.by_name)
        hint = f"did you mean {near}?" if near else f"known are {', '.join(self.by_name)}"
        return f"is not a known field; {hint}"

    def describe(self) -> str:
        return "object: " + ", ".join(each.name + ("" if each.required else "?") for each in self.fields)

    def json_schema(self) -> dict[str, Any]:
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {each.name: _field_schema(each) for each in self.fields},
        }
        if self.required:
            schema["required"] = sorted(self.required)
        if self.closed:
            schema["additionalProperties"] = False
        return schema

    def problems(self, value: object, path: str = "") -> Problems:
        """Everything wrong with `value`; an empty list if it is fine."""
        found: Problems = []
        self.check(value, path, found)
        return found

    def with_defaults(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A checked value with the defaults of the fields that were left out or null."""
        filled = dict(value)
        for each in self.fields:
            if each.default is not MISSING and filled.get(each.name) is None:
                filled[each.name] = each.default
        return filled


def _field_schema(each: Field) -> dict[str, Any]:
    schema = each.type.json_schema()
    if each.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    if each.doc:
        schema["description"] = each.doc
    if each.default is not MISSING and each.default is not None:
        schema["default"] = list(each.default) if isinstance(each.default, tuple) else each.default
    return schema


def nearest(name: str, known: Mapping[str, object] | Sequence[str]) -> str | None:
    """The known name most like `name`, if one is near enough to be what was meant."""
    found = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


FieldType = Text | Integer | Number | Boolean | ListOf | MapOf | Anything | AnyObject | OneOf | Record
