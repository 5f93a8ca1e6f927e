"""The options of `submit` about the task, one for each field of the task document, and the document that they make.

Their help comes from the tables of fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from retirecluster.domain.commands.kinds import DEVICE, FILE, ROLE, TEXT
from retirecluster.domain.commands.model import EVERYWHERE, SHELL, Kind, Option
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.fields import Field, Integer, Text, nearest
from retirecluster.domain.limits import LIMIT_FIELDS
from retirecluster.domain.requirements import REQUIREMENT_FIELDS
from retirecluster.domain.tasks import TASK_FIELDS
from retirecluster.domain.units import parse_duration_s, parse_size_bytes

ABOUT, DEMANDS = "about the task", "what the device must have"


def _as_text(text: str) -> str:
    return text


def _duration(text: str) -> float:
    return parse_duration_s(text)


HALVES = ("inputs", "outputs")


@frozen
class TaskOption:
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
    TaskOption("--name", "name", metavar="TEXT"),
    TaskOption("--priority", "priority"),
    TaskOption("--timeout", "timeout", _duration, "TIME"),
    TaskOption("--retries", "max_retries", int, "N"),
    TaskOption("--label", "labels", metavar="NAME=VALUE", kind="pairs"),
    TaskOption("--delivery", "delivery"),
    TaskOption("--on-disconnect", "on_disconnect"),
    TaskOption("--deadline", "deadline_s", _duration, "TIME"),
    TaskOption("--key", "idempotency_key", metavar="TEXT"),
    TaskOption("--mode", "mode"),
    TaskOption("--limit", "limits", metavar="NAME=VALUE", kind="limits"),
    TaskOption("--grace", "grace_s", _duration, "TIME"),
    TaskOption("--verify", "verify", int, "N"),
    TaskOption("--checkpoint", "checkpoint", kind="flag"),
    TaskOption("--input", "files", metavar="PATH[=NAME]", kind="inputs", doc="a file or folder that it brings"),
    TaskOption(
        "--output", "files", metavar="GLOB", kind="outputs", doc="what is kept of its folder: 'out/**', '*.png'"
    ),
)
REQUIREMENT_OPTIONS = (
    TaskOption("--min-cpu-cores", "min_cpu_cores", float, "N"),
    TaskOption("--min-memory-gb", "min_memory_gb", float, "N"),
    TaskOption("--min-storage-gb", "min_storage_gb", float, "N"),
    TaskOption("--platform", "platform", metavar="NAME"),
    TaskOption("--architecture", "architecture", metavar="NAME"),
    TaskOption("--role", "role", metavar="NAME"),
    TaskOption("--tag", "tags", metavar="TAG", kind="list"),
    TaskOption("--gpu", "gpu", kind="flag"),
    TaskOption("--internet", "internet", kind="flag"),
    TaskOption("--device", "device", metavar="ID"),
    TaskOption("--not-device", "not_devices", metavar="ID", kind="list"),
    TaskOption("--isolation", "isolation", int, "LEVEL"),
    TaskOption("--python", "python", metavar="VERSION"),
)
REPEATED = frozenset({"list", "pairs", "limits", *HALVES})
_KINDS: dict[str, Kind] = {"role": ROLE, "device": DEVICE, "not_devices": DEVICE, "files": FILE}
_UNIT_SUFFIX = re.compile("_(bytes|s)$")
LIMITS = {_UNIT_SUFFIX.sub("", each.name).replace("_", "-"): each for each in LIMIT_FIELDS.fields}
"""The limits by the short names that `--limit` takes."""


def task_options() -> tuple[Option, ...]:
    """All options of a task. Their texts are read by `document_from`: what is wrong is said of the option there."""
    about = [_option(each, TASK_FIELDS.by_name[each.field], ABOUT) for each in TASK_OPTIONS]
    return (*about, *(_option(each, REQUIREMENT_FIELDS.by_name[each.field], DEMANDS) for each in REQUIREMENT_OPTIONS))


def _option(option: TaskOption, field: Field, heading: str) -> Option:
    doc = option.doc or field.doc or field.type.describe().replace("`", "")
    if option.read is _duration:
        doc = re.sub("^seconds", "time", doc) + " (90, 2m30s, 1.5h)"
    if option.kind == "limits":
        doc += f": {', '.join(LIMITS)}, as memory=512MiB or cpu-time=90s"
    choices = field.type.choices if isinstance(field.type, Text) and field.type.choices else ()
    repeated = option.kind in REPEATED
    return Option(
        (option.flag,),
        None if option.kind == "flag" else _KINDS.get(option.field, TEXT),
        f"{doc} (may be repeated)" if repeated else doc,
        name=option.dest,
        metavar="" if choices else option.metavar,
        choices=choices,
        repeated=repeated,
        heading=heading,
        doors=SHELL if option.kind == "inputs" else EVERYWHERE,
    )


def document_from(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a task document that options give; fields that were not given are left out. Raises ClusterError."""
    document = _given(TASK_OPTIONS, values)
    requirements = _given(REQUIREMENT_OPTIONS, values)
    return document | ({"requirements": requirements} if requirements else {})


def _given(options: tuple[TaskOption, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    given = ((option, values.get(option.dest)) for option in options if option.kind not in HALVES)
    return {option.field: _read(option, value) for option, value in given if value not in (None, False)}


def _read(option: TaskOption, value: Any) -> Any:
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


def _pair(option: TaskOption, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ClusterError("bad_field", f"{option.flag}: {text!r} is not NAME=VALUE, as team=kitchen")
    return name, value


def _limit(option: TaskOption, text: str) -> tuple[str, float]:
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
