"""The built-in task types and what their payloads look like.

The main checks payloads of these types at submit; the worker runs them. Types that a user's package adds are
known to the workers that have it, and their payloads are checked there.
"""

from __future__ import annotations

import shlex
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

SCRIPT = Text(max_length=900_000, min_length=1, multiline=True)
ENVIRONMENT = MapOf(Text(max_length=65_536, multiline=True), 256)
STDIN = Text(max_length=900_000, multiline=True)
TYPE_NAME = Text(
    max_length=64,
    min_length=1,
    pattern=r"[A-Za-z][A-Za-z0-9_.-]{0,63}",
    pattern_doc="a task type: letters, digits and _ . - (64 at most, a letter first)",
)


@frozen
class TaskType:
    """A task type: `payload` says what it takes, `result_doc` what its output is.

    `runs_code` types run what the submitter wrote, so a device's owner enables them.
    """

    name: str
    doc: str
    payload: Record
    result_doc: str
    runs_code: bool = False


def _types(*rows: TaskType) -> dict[str, TaskType]:
    return {row.name: row for row in rows}


BUILT_IN = _types(
    TaskType(
        "echo",
        "Give the message back.",
        Record((Field("message", Anything(), "what to give back", default=""),), closed=True),
        "the message; JSON text unless it is a string",
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
    ),
    TaskType("system_info", "Tell about the device it runs on.", Record((), closed=True), "a JSON object"),
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
    ),
    TaskType(
        "python_script",
        "Run a Python script in a process of its own.",
        Record(
            (
                Field("source", SCRIPT, "the script's text", required=True),
                Field("arguments", ListOf(Text(65_536, multiline=True), 1024), "sys.argv[1:]"),
                Field("stdin", STDIN, "standard input"),
                Field("environment", ENVIRONMENT, "environment variables"),
            ),
            closed=True,
        ),
        "what it prints",
        runs_code=True,
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
    if task_type == "sleep" and not problems and not payload.keys() & {"duration_s", "duration", "seconds"}:
        problems.append(Problem(f"{path}.duration_s", "is required: number of seconds, 0 to 86400"))
    if task_type == "command" and not problems:
        problems += _command_problems(payload, path)
    return problems


def _command_problems(payload: dict[str, Any], path: str) -> list[Problem]:
    given = [name for name in ("argv", "command") if name in payload]
    if not given:
        return [Problem(f"{path}.argv", 'is required: a list such as ["ls", "-l"]')]
    if len(given) > 1:
        return [Problem(f"{path}.command", "is another name for argv: give one of them")]
    name, value = given[0], payload[given[0]]
    if "\0" in "".join(value):
        return [Problem(f"{path}.{name}", "must not contain NUL characters")]
    if isinstance(value, str) and not payload.get("shell"):
        try:
            shlex.split(value)
        except ValueError as error:
            return [Problem(f"{path}.{name}", f"cannot be split as a shell would: {str(error).lower()}")]
    return []
