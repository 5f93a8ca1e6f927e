"""Random data made from the tables that describe the real data."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from hypothesis import strategies as st

from retirecluster.domain import fields


@singledispatch
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a field type accepts."""
    raise NotImplementedError(type(kind))


@values.register
def _(kind: fields.Text) -> st.SearchStrategy[str]:
    if kind.choices:
        return st.sampled_from(kind.choices)
    if kind.pattern:
        return st.from_regex(kind.pattern, fullmatch=True).filter(
            lambda s: s.isprintable() and len(s) <= kind.max_length
        )
    alphabet = st.characters(codec="utf-8") if kind.multiline else st.characters(codec="utf-8").filter(str.isprintable)
    return st.text(alphabet, min_size=kind.min_length, max_size=min(kind.max_length, 20))


@values.register
def _(kind: fields.Integer) -> st.SearchStrategy[int]:
    return st.integers(kind.minimum, kind.maximum)


@values.register
def _(kind: fields.Number) -> st.SearchStrategy[float]:
    return st.floats(kind.minimum, kind.maximum, allow_nan=False)


@values.register
def _(kind: fields.Boolean) -> st.SearchStrategy[bool]:
    return st.booleans()


@values.register
def _(kind: fields.ListOf) -> st.SearchStrategy[list[Any]]:
    return st.lists(values(kind.items), min_size=kind.min_items, max_size=min(kind.max_items, 4))


@values.register
def _(kind: fields.MapOf) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(values(kind.name), values(kind.values), max_size=3)


@values.register
def _(kind: fields.Anything) -> st.SearchStrategy[Any]:
    return st.none() | st.integers(-100, 100) | st.text(max_size=10) | st.lists(st.booleans(), max_size=3)


@values.register
def _(kind: fields.AnyObject) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.text(max_size=5), st.integers(-100, 100), max_size=3)


@values.register
def _(kind: fields.OneOf) -> st.SearchStrategy[Any]:
    return st.one_of([values(each) for each in kind.types])


@values.register
def _(kind: fields.Record) -> st.SearchStrategy[dict[str, Any]]:
    required = {each.name: _field(each) for each in kind.fields if each.required}
    optional = {each.name: _field(each) for each in kind.fields if not each.required}
    return st.fixed_dictionaries(required, optional=optional)


def _field(each: fields.Field) -> st.SearchStrategy[Any]:
    return st.none() | values(each.type) if each.nullable else values(each.type)
