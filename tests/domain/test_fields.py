"""Field descriptions: what they accept, what they say of the rest, and that both agree with their JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.errors import ERRORS, ClusterError, invalid
from retirecluster.domain.fields import Boolean, Field, Integer, ListOf, MapOf, Number, OneOf, Record, Text
from retirecluster.domain.task_types import BUILT_IN, payload_problems
from retirecluster.domain.tasks import TASK_FIELDS, spec_from_document
from tests.strategies import values

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(values(TASK_FIELDS))
def test_every_task_of_the_table_is_accepted(document: dict[str, Any]) -> None:
    assert TASK_FIELDS.problems(document) == []


@given(JSON)
def test_anything_is_accepted_or_named(value: Any) -> None:
    for problem in TASK_FIELDS.problems(value):
        assert problem.message and "\n" not in str(problem) and len(str(problem)) < 600


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({}, "task_type: is required"),
        (
            {"task_type": "echo", "priority": "highest"},
            "priority: must be one of low, normal, high, urgent; not 'highest'",
        ),
        ({"task_type": "echo", "timeout": 0}, "timeout: must be 0.001 to 2.592e+06, not 0"),
        ({"task_type": "echo", "timeout": float("nan")}, "timeout: must be"),
        ({"task_type": "echo", "max_retries": True}, "max_retries: must be a whole number, not True"),
        ({"task_type": "echo", "timeuot": 5}, "timeuot: is not a known field; did you mean timeout?"),
        (
            {"task_type": "echo", "requirements": {"min_cpu": 1}},
            "requirements.min_cpu: is not a known field; did you mean",
        ),
        ({"task_type": "echo", "labels": {"a": 1}}, "labels.a: must be a string, not 1"),
        ({"task_type": "echo", "name": "a\x1b[31m"}, "name: must not contain control characters"),
        ({"task_type": "1x"}, "task_type: must be a task type"),
        ({"task_type": "python_eval"}, "payload.expression: is required"),
        ({"task_type": "sleep"}, "payload.duration_s: is required"),
        ({"task_type": "command"}, "payload.argv: is required"),
        ({"task_type": "command", "payload": {"argv": []}}, "payload.argv: must be"),
        (
            {"task_type": "command", "payload": {"argv": 'a "b'}},
            "payload.argv: cannot be split as a shell would: no closing",
        ),
        ({"task_type": "command", "payload": {"argv": ["a\0"]}}, "payload.argv: must not contain NUL"),
        (
            {"task_type": "echo", "payload": {"mesage": 1}},
            "payload.mesage: is not a known field; did you mean message?",
        ),
        (
            {"task_type": "http_request", "payload": {"url": "file:///etc/passwd"}},
            "payload.url: must be an http(s) URL",
        ),
    ],
)
def test_mistakes_say_what_is_allowed(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        spec_from_document(document)
    assert caught.value.message.startswith(message)
    assert caught.value.kind.http_status == 422


def test_all_mistakes_are_collected() -> None:
    with pytest.raises(ClusterError) as caught:
        spec_from_document({"priority": 1, "timeout": "x"}, "[3]")
    assert {problem.path for problem in caught.value.problems} == {"[3].priority", "[3].timeout", "[3].task_type"}


def test_a_task_that_fits_no_message_is_refused() -> None:
    script = {"source": "x" * 800_000, "stdin": "y" * 800_000}
    with pytest.raises(ClusterError) as caught:
        spec_from_document({"task_type": "python_script", "payload": script})
    assert caught.value.code == "too_large"


def test_null_means_left_out() -> None:
    bare = spec_from_document({"task_type": "echo"})
    nulls = {field.name: None for field in TASK_FIELDS.fields if field.nullable}
    assert spec_from_document({"task_type": "echo"} | nulls) == bare


@given(st.sampled_from(sorted(BUILT_IN)).flatmap(lambda name: st.tuples(st.just(name), values(BUILT_IN[name].payload))))
def test_payloads_of_the_table_are_accepted_but_for_rules_between_fields(drawn: tuple[str, dict[str, Any]]) -> None:
    name, payload = drawn
    for problem in payload_problems(name, payload):
        allowed = (
            "is required",
            "stands beside",
            "must not contain NUL",
            "cannot be split",
            "is for a function by its",
        )
        allowed += ("is not base64",)
        assert name in ("sleep", "command", "python_script", "python_call") and problem.message.startswith(allowed)


def test_types_describe_themselves() -> None:
    record = Record(
        (
            Field("a", Text(choices=("x", "y"))),
            Field("b", ListOf(Integer(1, 5), 3, 1), required=True),
            Field("c", MapOf(Number(0, 1)), nullable=True),
            Field("d", OneOf((Boolean(), Text(5)))),
        ),
        closed=True,
    )
    schema = record.json_schema()
    assert schema["required"] == ["b"] and schema["additionalProperties"] is False
    assert schema["properties"]["b"] == {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 5},
        "maxItems": 3,
        "minItems": 1,
    }
    assert record.describe() == "object: a?, b, c?, d?"


def test_the_table_of_errors_is_sound() -> None:
    assert {kind.actor for kind in ERRORS.values()} <= {"caller", "peer", "operator", "us"}
    assert all(code == kind.code and 200 <= kind.http_status < 600 for code, kind in ERRORS.items())
    assert invalid(TASK_FIELDS.problems({})).code == "missing_field"
