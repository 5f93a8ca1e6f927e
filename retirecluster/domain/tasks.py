"""What a task is: the document people submit, and the specification it becomes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from attrs import frozen

from retirecluster.domain.devices import LABELS
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import AnyObject, Boolean, Field, Integer, Number, Problem, Record, Text
from retirecluster.domain.files import FILE_FIELDS, InputFile, file_problems, inputs_of
from retirecluster.domain.limits import LIMIT_FIELDS
from retirecluster.domain.requirements import PICKLED, REQUIREMENT_FIELDS, Requirements
from retirecluster.domain.task_types import TYPE_NAME, payload_problems, warm_problem

PRIORITIES = ("low", "normal", "high", "urgent")
AT_LEAST_ONCE, AT_MOST_ONCE = "at_least_once", "at_most_once"
KEEP, STOP = "keep", "stop"
FRESH, WARM = "fresh", "warm"
ADMIN = "admin"
"""The submitter where there is only one."""
DEFAULT_TIMEOUT_S = 300.0
DEFAULT_MAX_RETRIES = 3
MAX_BODY_CHARS = 1_000_000
"""The longest specification, as JSON: it has to fit a line of 1 MiB together with its envelope."""

TASK_FIELDS = Record(
    (
        Field("task_type", TYPE_NAME, "what kind of task; `tasks types` lists them", required=True),
        Field("payload", AnyObject(), "what the task type takes", default={}, nullable=True),
        Field("name", Text(200), "for people", nullable=True, default=""),
        Field("priority", Text(choices=PRIORITIES), nullable=True, default="normal"),
        Field(
            "timeout",
            Number(0.001, 30 * 86_400),
            "seconds that one attempt may run",
            nullable=True,
            default=DEFAULT_TIMEOUT_S,
        ),
        Field("requirements", REQUIREMENT_FIELDS, "what the device must have", nullable=True, default={}),
        Field("labels", LABELS, "names and values to find it by", nullable=True, default={}),
        Field(
            "max_retries",
            Integer(0, 1000),
            "attempts after the first, when one fails, times out or loses its device",
            nullable=True,
            default=DEFAULT_MAX_RETRIES,
        ),
        Field(
            "idempotency_key",
            Text(200, 1),
            "the same key and body again give the same task, not a second one",
            nullable=True,
            default=None,
        ),
        Field(
            "delivery",
            Text(choices=(AT_LEAST_ONCE, AT_MOST_ONCE)),
            "what happens when nobody can tell whether an attempt ran: again, or `lost`",
            nullable=True,
            default=AT_LEAST_ONCE,
        ),
        Field(
            "on_disconnect",
            Text(choices=(KEEP, STOP)),
            "whether a device that cannot reach the main goes on with it",
            nullable=True,
            default=KEEP,
        ),
        Field(
            "deadline_s",
            Number(0.001, 3650 * 86_400),
            "seconds from now after which it expires",
            nullable=True,
            default=None,
        ),
        Field(
            "mode",
            Text(choices=(FRESH, WARM)),
            "a process of its own, or one that is used again for the next task of the same submitter",
            nullable=True,
            default=FRESH,
        ),
        Field("limits", LIMIT_FIELDS, "what it may use, at most", nullable=True, default={}),
        Field(
            "grace_s",
            Number(0, 3600),
            "seconds between SIGTERM and SIGKILL when it is stopped",
            nullable=True,
            default=None,
        ),
        Field(
            "files", FILE_FIELDS, "files that it brings, and what is kept of those it leaves", nullable=True, default={}
        ),
        Field(
            "verify",
            Integer(1, 2),
            "on how many devices it has to give the same result; for tasks that always give the same",
            nullable=True,
            default=1,
        ),
        Field(
            "checkpoint",
            Boolean(),
            "a folder that its next attempt on the same device finds again",
            nullable=True,
            default=False,
        ),
    ),
    closed=True,
)


@frozen
class Options:
    """How the lifecycle treats a task. Shared by all tasks that say the same."""

    timeout_s: float = DEFAULT_TIMEOUT_S
    max_retries: int = DEFAULT_MAX_RETRIES
    delivery: str = AT_LEAST_ONCE
    on_disconnect: str = KEEP
    verify: int = 1

    @property
    def at_most_once(self) -> bool:
        return self.delivery == AT_MOST_ONCE


@frozen
class TaskSpec:
    """A submitted task after all checks.

    `body` is the JSON text of the fields that travel to the device in `task_assign` (all but the epoch),
    encoded once and never parsed again by the main. `priority` is 0 (low) to 3 (urgent). `request_digest` tells
    whether a request that comes again with the same idempotency key is the same request.
    """

    task_type: str
    name: str
    priority: int
    requirements: Requirements
    requirements_text: str
    options: Options
    labels: str
    body: str
    idempotency_key: str | None = None
    request_digest: str | None = None
    deadline_s: float | None = None
    retry_of: str | None = None
    inputs: tuple[InputFile, ...] = ()
    submitted_by: str | None = None


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def encode(value: object) -> str:
    """JSON as it is stored and sent: compact, ASCII, no NaN."""
    return _ENCODER.encode(value)


def spec_from_document(document: object, path: str = "", submitter: str = ADMIN) -> TaskSpec:
    """The specification in a document that `submitter`, by the main's own knowledge, has submitted.

    Raises ClusterError (`bad_field`, `missing_field`, `unknown_type`, `too_large`) with the path of each field
    that is wrong; `path` is put before them, as `[3]` for the fourth of many.
    """
    problems = TASK_FIELDS.problems(document, path)
    if problems:
        raise invalid(problems)
    assert isinstance(document, dict)
    prefix = f"{path}." if path else ""
    full = TASK_FIELDS.with_defaults(document)
    problems = payload_problems(full["task_type"], full["payload"], f"{prefix}payload")
    problems += file_problems(full["files"], f"{prefix}files")
    problems += _mode_problems(full, prefix) + _script_problems(full, prefix) + _verify_problems(full, prefix)
    full["requirements"] = _with_python(full, prefix, problems)
    if problems:
        raise invalid(problems)
    body = _body(full, submitter)
    if len(body) > MAX_BODY_CHARS:
        raise ClusterError(
            "too_large",
            f"{prefix}payload: the task has {len(body)} characters as JSON; at most {MAX_BODY_CHARS} fit one message",
            field=f"{prefix}payload",
        )
    key = full["idempotency_key"]
    return TaskSpec(
        task_type=full["task_type"],
        name=full["name"],
        priority=PRIORITIES.index(full["priority"]),
        requirements=Requirements.from_document(full["requirements"]),
        requirements_text=encode(full["requirements"]) if full["requirements"] else "",
        options=_options(full),
        labels=encode(full["labels"]) if full["labels"] else "",
        body=body,
        idempotency_key=key,
        request_digest=None if key is None else _digest(full),
        deadline_s=full["deadline_s"],
        inputs=tuple(inputs_of(full["files"])),
        submitted_by=submitter,
    )


SENT = (
    "task_type",
    "priority",
    "timeout",
    "payload",
    "requirements",
    "name",
    "labels",
    "delivery",
    "on_disconnect",
)
"""The fields of a task document that travel to the device."""
SENT_IF_GIVEN: dict[str, Any] = {"mode": FRESH, "limits": {}, "grace_s": None, "files": {}, "checkpoint": False}
"""Those that travel only where they say something, each with the value that says nothing."""


def _body(full: Mapping[str, Any], submitter: str) -> str:
    more = {name: full[name] for name, nothing in SENT_IF_GIVEN.items() if full[name] != nothing}
    if full["mode"] == WARM:
        more["submitter"] = submitter  # whose tasks share a process
    return encode({name: full[name] for name in SENT} | more)


def _mode_problems(full: Mapping[str, Any], prefix: str) -> list[Problem]:
    if full["mode"] != WARM:
        return []
    problems = warm_problem(full["task_type"], f"{prefix}mode")
    shared = "warm tasks share one folder, which is emptied after each: leave this out, or mode"
    problems += [Problem(f"{prefix}{name}", shared) for name in ("files", "checkpoint") if full[name]]
    return problems


def _options(full: Mapping[str, Any]) -> Options:
    timeout_s = float(full["timeout"])
    return Options(timeout_s, full["max_retries"], full["delivery"], full["on_disconnect"], full["verify"])


def _verify_problems(full: Mapping[str, Any], prefix: str) -> list[Problem]:
    if full["verify"] > 1 and full["delivery"] == AT_MOST_ONCE:
        said = "runs a task on two devices, and at_most_once forbids that: leave this out, or delivery"
        return [Problem(f"{prefix}verify", said)]
    return []


def _script_problems(full: Mapping[str, Any], prefix: str) -> list[Problem]:
    """A script that comes as a file has to be one of the task's inputs."""
    name = full["payload"].get("file") if full["task_type"] == "python_script" else None
    inputs = [each["name"] for each in full["files"].get("inputs") or () if isinstance(each, dict)]
    if name is None or name in inputs:
        return []
    return [Problem(f"{prefix}payload.file", f"must be the name of one of files.inputs, {inputs}; not {name!a}")]


def _with_python(full: Mapping[str, Any], prefix: str, problems: list[Problem]) -> dict[str, Any]:
    """The requirements, with the Python that a pickled function needs."""
    requirements: dict[str, Any] = full["requirements"]
    needed = full["payload"].get("python") if full["task_type"] == PICKLED else None
    if not isinstance(needed, str):
        return requirements
    asked = requirements.get("python")
    if asked not in (None, needed):
        problems.append(Problem(f"{prefix}requirements.python", f"must be {needed}, which pickled it; not {asked}"))
    return requirements | {"python": needed}


def _digest(full: Mapping[str, Any]) -> str:
    said = {name: value for name, value in full.items() if (name, value) != ("verify", 1)}  # as before there was one
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


__all__ = ["TASK_FIELDS", "Options", "Problem", "TaskSpec", "encode", "spec_from_document"]
