"""The built-in task types and what their payloads look like.

The main checks payloads of these types at submit; the worker runs them. Types that a user's package adds are
known to the workers that have it, which tell their schemas when they register (`schemas`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Any

from attrs import frozen

from retirecluster.domain.fields import (
    MISSING,
    Anything,
    Boolean,
    Field,
    Integer,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Problem,
    Record,
    Text,
)
from retirecluster.domain.files import FILE_NAME
from retirecluster.domain.requirements import PICKLED, PYTHON

SCRIPT = Text(max_length=900_000, min_length=1, multiline=True)
ENVIRONMENT = MapOf(Text(max_length=65_536, multiline=True), 256)
STDIN = Text(max_length=900_000, multiline=True)
TYPE_NAME = Text(
    max_length=64,
    min_length=1,
    pattern=r"[A-Za-z][A-Za-z0-9_.-]{0,63}",
    pattern_doc="a task type: letters, digits and _ . - (64 at most, a letter first)",
)


ARGUMENTS = ListOf(Text(65_536, multiline=True), 1024)
FUNCTION = Text(
    max_length=400,
    min_length=3,
    pattern=r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*",
    pattern_doc="a function as module:name, such as math:factorial",
)
PICKLE = Text(
    max_length=900_000,
    min_length=1,
    pattern="[A-Za-z0-9+/]+={0,2}",
    pattern_doc="base64 of at most 900000 characters",
)


@frozen
class TaskType:
    """A task type: `payload` says what it takes, `result_doc` what its output is.

    `runs_code` types run what the submitter wrote, so a device's owner enables them. `warm` ones may run in a
    process that is used again. `rules` finds what is wrong with a payload whose fields are right one by one;
    `rules_doc` says the same for people.
    """

    name: str
    doc: str
    payload: Record
    result_doc: str
    runs_code: bool = False
    warm: bool = False
    rules: Callable[[dict[str, Any], str], list[Problem]] | None = None
    rules_doc: str = ""


def _one_of(payload: dict[str, Any], path: str, names: tuple[str, ...], example: str) -> list[Problem]:
    """Exactly one of `names` has to be there."""
    given = [name for name in names if payload.get(name) is not None]
    if not given:
        return [Problem(f"{path}.{names[0]}", f"is required{_or(names[1:])}: {example}")]
    return [Problem(f"{path}.{given[1]}", f"stands beside {given[0]}: give one of them")] if len(given) > 1 else []


def _or(names: tuple[str, ...]) -> str:
    return f" (or {' or '.join(names)})" if names else ""


def _sleep_rules(payload: dict[str, Any], path: str) -> list[Problem]:
    if payload.keys() & {"duration_s", "duration", "seconds"}:
        return []
    return [Problem(f"{path}.duration_s", "is required: number of seconds, 0 to 86400")]


def _script_rules(payload: dict[str, Any], path: str) -> list[Problem]:
    return _one_of(payload, path, ("source", "file"), 'the script\'s text, such as "print(1)"')


def _call_rules(payload: dict[str, Any], path: str) -> list[Problem]:
    if problems := _one_of(payload, path, ("function", "call"), "a function as module:name, such as math:factorial"):
        return problems
    if payload.get("call") is None:
        return []
    problems = [
        Problem(f"{path}.{name}", "is for a function by its name; a pickled call has its own")
        for name in ("arguments", "keywords")
        if name in payload
    ]
    if len(payload["call"]) % 4:
        problems.append(Problem(f"{path}.call", "is not base64: its length is no multiple of 4"))
    if payload.get("python") is None:
        problems.append(Problem(f"{path}.python", f"is required beside call: {PYTHON.pattern_doc}"))
    return problems


def _command_rules(payload: dict[str, Any], path: str) -> list[Problem]:
    if problems := _one_of(payload, path, ("argv", "command"), 'a list such as ["ls", "-l"]'):
        return problems
    name = "argv" if payload.get("argv") is not None else "command"
    value = payload[name]
    if "\0" in "".join(value):
        return [Problem(f"{path}.{name}", "must not contain NUL characters")]
    if isinstance(value, str) and not payload.get("shell"):
        try:
            shlex.split(value)
        except ValueError as error:
            return [Problem(f"{path}.{name}", f"cannot be split as a shell would: {str(error).lower()}")]
    return []


def _types(*rows: TaskType) -> dict[str, TaskType]:
    return {row.name: row for row in rows}


BUILT_IN = _types(
    TaskType(
        "echo",
        "Give the message back.",
        Record((Field("message", Anything(), "what to give back", default=""),), closed=True),
        "the message; JSON text unless it is a string",
        warm=True,
    ),
    TaskType(
        "sleep",
        "Wait, reporting progress.",
        Record(
            (
                Field("duration_s", Number(0, 86_400), "seconds", default=MISSING),
                Field("duration", Number(0, 86_400), "the same, by the name the original used"),
                Field("seconds", Number(0, 86_400), "the same again"),
            ),
            closed=True,
        ),
        "`slept N s`",
        rules=_sleep_rules,
        rules_doc="One of the three is needed.",
    ),
    TaskType("system_info", "Tell about the device it runs on.", Record((), closed=True), "a JSON object", warm=True),
    TaskType(
        "python_eval",
        "Evaluate one Python expression.",
        Record(
            (
                Field("expression", SCRIPT, "the expression", required=True),
                Field(
                    "environment",
                    MapOf(Anything(), 256),
                    "names that the expression may use, with JSON values",
                ),
            ),
            closed=True,
        ),
        "the value: a string as it is, else its repr",
        runs_code=True,
        warm=True,
    ),
    TaskType(
        "python_script",
        "Run a Python script.",
        Record(
            (
                Field("source", SCRIPT, "the script's text"),
                Field("file", FILE_NAME, "the script, as one of the task's `files.inputs`"),
                Field("arguments", ARGUMENTS, "sys.argv[1:]"),
                Field("stdin", STDIN, "standard input"),
                Field("environment", ENVIRONMENT, "environment variables"),
            ),
            closed=True,
        ),
        "what it prints",
        runs_code=True,
        warm=True,
        rules=_script_rules,
        rules_doc="One of `source` and `file` is needed.",
    ),
    TaskType(
        PICKLED,
        "Call a Python function.",
        Record(
            (
                Field("function", FUNCTION, "a function that the device can import"),
                Field("arguments", ListOf(Anything(), 1024), "its arguments"),
                Field("keywords", MapOf(Anything(), 256), "its arguments by name"),
                Field("call", PICKLE, "instead: (function, arguments, keywords), pickled by cloudpickle, as base64"),
                Field("python", PYTHON, "the Python that pickled it: no other can read it", nullable=True),
                Field("retry_exceptions", Boolean(), "false: an exception that it raises ends the task", nullable=True),
            ),
            closed=True,
        ),
        "a JSON object: `repr` of the value, and `pickle`: the value pickled, as base64",
        runs_code=True,
        warm=True,
        rules=_call_rules,
        rules_doc="`function`, or `call` and `python`, are needed; `call` on the command line writes them.",
    ),
    TaskType(
        "command",
        "Run a program.",
        Record(
            (
                Field(
                    "argv",
                    OneOf((ListOf(Text(65_536, multiline=True), 1024, 1), Text(65_536, 1, multiline=True))),
                    "the program and its arguments; one string is split as a shell would, and no shell is run",
                ),
                Field(
                    "command",
                    Text(65_536, 1, multiline=True),
                    "the same as one string, by the original's name",
                ),
                Field("shell", Boolean(), "run the string by /bin/sh -c", default=False),
                Field("stdin", STDIN, "standard input"),
                Field("environment", ENVIRONMENT, "environment variables"),
            ),
            closed=True,
        ),
        "what it prints",
        runs_code=True,
        rules=_command_rules,
        rules_doc="One of `argv` and `command` is needed.",
    ),
    TaskType(
        "http_request",
        "Make one HTTP request to a public address.",
        Record(
            (
                Field("url", Text(8192, 1, pattern=r"https?://\S+", pattern_doc="an http(s) URL"), required=True),
                Field("method", Text(choices=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")), default="GET"),
                Field("headers", MapOf(Text(8192), 64), "request headers"),
                Field("body", STDIN, "request body"),
                Field("max_bytes", Integer(1, 131_072), "how much of the answer to keep", default=65_536),
            ),
            closed=True,
        ),
        "a JSON object: status, headers, body",
    ),
)


def payload_problems(task_type: str, payload: dict[str, Any], path: str = "payload") -> list[Problem]:
    """Everything wrong with the payload of a built-in type; nothing is said of types not known here."""
    known = BUILT_IN.get(task_type)
    if known is None:
        return []
    problems = known.payload.problems(payload, path)
    return known.rules(payload, path) if known.rules is not None and not problems else problems


def warm_problem(task_type: str, mode_path: str) -> list[Problem]:
    """Whether a task of this type may be `warm`; types of plug-ins may."""
    known = BUILT_IN.get(task_type)
    if known is None or known.warm:
        return []
    allowed = ", ".join(name for name, each in BUILT_IN.items() if each.warm)
    return [Problem(mode_path, f"warm is for {allowed} and types of plug-ins; {task_type} has to be fresh")]
