"""Parts of data from outside: what of it is right, and what of it is known, by the tables that describe it."""

from __future__ import annotations

from typing import Any

from retirecluster.domain.fields import FieldType, ListOf, MapOf, OneOf, Problems, Record


def sound_part(kind: FieldType, value: Any, path: str, problems: Problems) -> Any:
    """A value without the fields of it that are wrong, which are added to `problems`; None if nothing is left.

    Fields of records are looked at one by one; anything else is right or wrong as a whole.
    """
    found: Problems = []
    if value is not None:
        kind.check(value, path, found)
    record = kind.types[-1] if isinstance(kind, OneOf) else kind
    if not found or not isinstance(record, Record) or not isinstance(value, dict):
        problems += found
        return None if found else value
    sound = {}
    for name, each in value.items():
        known = record.by_name.get(name)
        part = each if known is None else sound_part(known.type, each, f"{path}.{name}", problems)
        if part is not None:
            sound[name] = part
    return sound or None


def known_part(kind: FieldType, value: Any) -> Any:
    """A checked value without what its table does not name, at any depth."""
    if isinstance(kind, OneOf):
        fitting = (each for each in kind.types if not _problems(each, value))
        return known_part(next(fitting, kind.types[-1]), value)
    if isinstance(kind, Record) and isinstance(value, dict):
        return {name: known_part(kind.by_name[name].type, each) for name, each in value.items() if name in kind.by_name}
    if isinstance(kind, ListOf) and isinstance(value, list):
        return [known_part(kind.items, each) for each in value]
    if isinstance(kind, MapOf) and isinstance(value, dict):
        return {name: known_part(kind.values, each) for name, each in value.items()}
    return value


def _problems(kind: FieldType, value: Any) -> Problems:
    found: Problems = []
    kind.check(value, "", found)
    return found
