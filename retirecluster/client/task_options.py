"""The options of `submit`, one for each field of the task document; their help comes from the field tables."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace, _ArgumentGroup
from collections.abc import Callable
from typing import Any

from attrs import frozen

from retirecluster.client.local_files import local_inputs
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Field, Integer, Text, nearest
from retirecluster.domain.limits import LIMIT_FIELDS
from retirecluster.domain.requirements import REQUIREMENT_FIELDS
from retirecluster.domain.tasks import TASK_FIELDS
from retirecluster.domain.units import parse_duration_s, parse_size_bytes


def _as_text(text: str) -> str:
    return text


def _duration(text: str) -> float:
    return parse_duration_s(text)


HALVES = ("inputs", "outputs")


@frozen
class Option:
    """One option: which field it sets, and how its text is read.

    `kind`: one, flag, list, pairs or limits; inputs or outputs for the two halves of `files`. `doc` stands in for the
    field's own.
    """

    flag: str
    field: str
    read: Callable[[str], Any] = _as_text
    metavar: str = ""
    kind: str = "one"
    doc: str = ""

    @property
    def dest(self) -> str:
        return "task_" + (self.kind if self.kind in HALVES else self.field)


TASK_OPTIONS = (
    Option("--name", "name", metavar="TEXT"),
    Option("--priority", "priority"),
    Option("--timeout", "timeout", _duration, "TIME"),
    Option("--retries", "max_retries", int, "N"),
    Option("--label", "labels", metavar="NAME=VALUE", kind="pairs"),
    Option("--delivery", "delivery"),
    Option("--on-disconnect", "on_disconnect"),
    Option("--deadline", "deadline_s", _duration, "TIME"),
    Option("--key", "idempotency_key", metavar="TEXT"),
    Option("--mode", "mode"),
    Option("--limit", "limits", metavar="NAME=VALUE", kind="limits"),
    Option("--grace", "grace_s", _duration, "TIME"),
    Option("--verify", "verify", int, "N"),
    Option("--checkpoint", "checkpoint", kind="flag"),
    Option("--input", "files", metavar="PATH[=NAME]", kind="inputs", doc="a file or folder that it brings"),
    Option("--output", "files", metavar="GLOB", kind="outputs", doc="what is kept of its folder: 'out/**', '*.png'"),
)
REQUIREMENT_OPTIONS = (
    Option("--min-cpu-cores", "min_cpu_cores", float, "N"),
    Option("--min-memory-gb", "min_memory_gb", float, "N"),
    Option("--min-storage-gb", "min_storage_gb", float, "N"),
    Option("--platform", "platform", metavar="NAME"),
    Option("--architecture", "architecture", metavar="NAME"),
    Option("--role", "role", metavar="NAME"),
    Option("--tag", "tags", metavar="TAG", kind="list"),
    Option("--gpu", "gpu", kind="flag"),
    Option("--internet", "internet", kind="flag"),
    Option("--device", "device", metavar="ID"),
    Option("--not-device", "not_devices", metavar="ID", kind="list"),
    Option("--isolation", "isolation", int, "LEVEL"),
    Option("--python", "python", metavar="VERSION"),
)
REPEATED = frozenset({"list", "pairs", "limits", *HALVES})
_UNIT_SUFFIX = re.compile("_(bytes|s)$")
LIMITS = {_UNIT_SUFFIX.sub("", each.name).replace("_", "-"): each for each in LIMIT_FIELDS.fields}
"""The limits by the short names that `--limit` takes."""


def add_task_options(parser: ArgumentParser) -> None:
    """Give a parser all options of a task."""
    about = parser.add_argument_group("about the task")
    for option in TASK_OPTIONS:
        _add(about, option, TASK_FIELDS.by_name[option.field])
    demands = parser.add_argument_group("what the device must have")
    for option in REQUIREMENT_OPTIONS:
        _add(demands, option, REQUIREMENT_FIELDS.by_name[option.field])


def _add(group: _ArgumentGroup, option: Option, field: Field) -> None:
    doc = (option.doc or field.doc or field.type.describe().replace("`", "")).replace("%", "%%")
    if option.read is _duration:
        doc = re.sub("^seconds", "time", doc) + " (90, 2m30s, 1.5h)"
    if option.kind == "limits":
        doc += f": {', '.join(LIMITS)}, as memory=512MiB or cpu-time=90s"
    if option.kind == "flag":
        group.add_argument(option.flag, dest=option.dest, action="store_true", default=None, help=doc)
        return
    choices = field.type.choices if isinstance(field.type, Text) and field.type.choices else None
    group.add_argument(
        option.flag,
        dest=option.dest,
        action="append" if option.kind in REPEATED else "store",
        metavar=None if choices else option.metavar,
        choices=choices,
        help=f"{doc} (may be repeated)" if option.kind in REPEATED else doc,
    )


def fields_from_options(args: Namespace) -> dict[str, Any]:
    """The part of a task document that the options give; fields that were not given are left out."""
    document = _given(TASK_OPTIONS, args)
    requirements = _given(REQUIREMENT_OPTIONS, args)
    files = _files(args)
    return document | ({"requirements": requirements} if requirements else {}) | ({"files": files} if files else {})


def _files(args: Namespace) -> dict[str, Any]:
    """`files` as the options say, its inputs with the `path` of each: they are uploaded before it is submitted."""
    files: dict[str, Any] = {}
    if args.task_inputs:
        files["inputs"] = local_inputs(args.task_inputs)
    if args.task_outputs:
        files["outputs"] = args.task_outputs
    return files


def _given(options: tuple[Option, ...], args: Namespace) -> dict[str, Any]:
    values = ((option, getattr(args, option.dest)) for option in options if option.kind not in HALVES)
    return {option.field: _read(option, value) for option, value in values if value is not None}


def _read(option: Option, value: Any) -> Any:
    if option.kind == "pairs":
        return dict(_pair(option, each) for each in value)
    if option.kind == "limits":
        return dict(_limit(option, each) for each in value)
    if option.kind in ("list", "flag"):
        return value
    try:
        return option.read(value)
    except ValueError as error:
        reason = str(error) if option.read is _duration else f"{value!r} is not a number"
        raise ClusterError("bad_field", f"{option.flag}: {reason}") from None


def _pair(option: Option, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ClusterError("bad_field", f"{option.flag}: {text!r} is not NAME=VALUE, as team=kitchen")
    return name, value


def _limit(option: Option, text: str) -> tuple[str, float]:
    """A limit by its short or its full name, with the unit of its kind."""
    name, equals, value = text.partition("=")
    short = _UNIT_SUFFIX.sub("", name.strip().replace("-", "_")).replace("_", "-")
    field = LIMITS.get(short)
    if not equals or field is None:
        near = nearest(short, LIMITS)
        hint = f"did you mean {near}?" if near and equals else f"known are {', '.join(LIMITS)}, as memory=512MiB"
        raise ClusterError("bad_field", f"{option.flag}: {text!r} is no limit; {hint}")
    try:
        return field.name, _quantity(field, value)
    except ValueError as error:
        raise ClusterError("bad_field", f"{option.flag}: {short}: {error}") from None


def _quantity(field: Field, text: str) -> float:
    if field.name.endswith("_bytes"):
        return parse_size_bytes(text)
    if field.name.endswith("_s"):
        return parse_duration_s(text)
    try:
        return int(text) if isinstance(field.type, Integer) else float(text)
    except ValueError:
        kind = "whole number" if isinstance(field.type, Integer) else "number"
        raise ValueError(f"{text!r} is not a {kind}") from None


def merged(document: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A task from a file with the options for what it does not say itself."""
    result = options | document
    for name in ("requirements", "labels", "limits", "files"):
        if options.get(name) and isinstance(document.get(name), dict):
            result[name] = options[name] | document[name]
    return result
