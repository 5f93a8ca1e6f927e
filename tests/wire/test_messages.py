"""The catalogue: every message of it is valid, wrong ones are named, and the original's examples stand as printed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retirecluster.domain.errors import ClusterError
from retirecluster.wire.codec import encode_line
from retirecluster.wire.messages import CLIENT, MAIN, MESSAGES, WORKER, read_message
from retirecluster.wire.session import BEFORE_AUTH, Session, TokenBucket
from tests.strategies import values

EVERYBODY = frozenset({MAIN, WORKER, CLIENT})


@given(st.sampled_from(sorted(MESSAGES)).flatmap(lambda name: st.tuples(st.just(name), values(MESSAGES[name].data))))
def test_every_message_of_the_catalogue_is_read(drawn: tuple[str, dict[str, Any]]) -> None:
    name, data = drawn
    message = read_message({"message_type": name, "sender_id": "x", "data": data}, EVERYBODY)
    assert message.name == name and message.data == data


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(MESSAGES)),
    st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=5), max_size=4),
)
def test_any_data_is_read_or_refused_with_a_named_field(name: str, data: dict[str, Any]) -> None:
    try:
        read_message({"message_type": name, "data": data}, EVERYBODY)
    except ClusterError as error:
        assert error.code in {"bad_field", "missing_field"}
        assert error.field.startswith("data")


def test_the_original_examples_are_valid_as_printed(seed_messages: list[dict[str, Any]]) -> None:
    for document in seed_messages:
        assert read_message(document, EVERYBODY).name == document["message_type"]


@pytest.mark.parametrize(
    ("document", "code", "field"),
    [
        ({}, "missing_field", "message_type"),
        ({"message_type": 7}, "bad_field", "message_type"),
        ({"message_type": "registr"}, "unknown_type", "message_type"),
        ({"message_type": "task_assign", "data": {"task": {}}}, "wrong_direction", "message_type"),
        ({"message_type": "heartbeat", "data": []}, "bad_field", "data"),
        (
            {"message_type": "heartbeat", "data": {"attempts": [{"task_id": "t"}]}},
            "missing_field",
            "data.attempts[0].epoch",
        ),
        ({"message_type": "register", "data": {}}, "missing_field", "data.device_info"),
        ({"message_type": "task_result", "data": {"task_id": "t", "status": "done"}}, "bad_field", "data.status"),
        (
            {"message_type": "task_result", "data": {"task_id": "t", "status": "failed", "epoch": "1"}},
            "bad_field",
            "data.epoch",
        ),
        (
            {"message_type": "task_submit", "data": {"task": {"task_type": "echo", "prioritty": "low"}}},
            "bad_field",
            "data.task.prioritty",
        ),
    ],
)
def test_mistakes_are_named(document: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(ClusterError) as caught:
        read_message(document, frozenset({WORKER, CLIENT}))
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"system_metrics": {"cpu_usage": 101}}, "data.system_metrics.cpu_usage"),
        ({"active_tasks": True}, "data.active_tasks"),
    ],
)
def test_a_mistake_in_a_report_costs_its_own_field_alone(data: dict[str, Any], field: str) -> None:
    sound = {"attempts": [{"task_id": "t", "epoch": 2}]}
    message = read_message({"message_type": "heartbeat", "data": data | sound}, frozenset({WORKER}))
    assert [each.path for each in message.left_out] == [field]
    assert message.data["attempts"] == sound["attempts"] and str(message.data).count("None") == 1


def test_a_typing_mistake_is_met_with_the_nearest_name() -> None:
    with pytest.raises(ClusterError, match="did you mean register"):
        read_message({"message_type": "registr"}, EVERYBODY)


def test_before_registration_only_the_listed_messages_are_understood() -> None:
    early = {"register", "status", "list_devices", "device_info", "task_submit", "task_status", "task_cancel"}
    early |= {"ping", "pong", "disconnect", "error", "join"}
    understood = set()
    for name, kind in MESSAGES.items():
        if not kind.senders & {WORKER, CLIENT}:
            continue
        document = {"message_type": name, "data": kind.data.with_defaults({"task_id": "t"})}
        try:
            Session().read(encode_line(document))
        except ClusterError as error:
            if error.code == "not_registered":
                continue
        understood.add(name)
    assert understood == early


def test_where_devices_prove_who_they_are_a_stranger_is_understood_in_few_words() -> None:
    understood = set()
    for name in [*MESSAGES, "no_such_message"]:
        try:
            Session(auth_required=True).read(encode_line({"message_type": name, "data": {}}))
        except ClusterError as error:
            if error.code == "unauthorized":
                continue
        understood.add(name)
    assert understood == BEFORE_AUTH == {"join", "register", "ping", "pong", "disconnect", "error"}


def test_a_session_registers_once(seed_messages: list[dict[str, Any]]) -> None:
    session = Session(device_id="device-001")
    with pytest.raises(ClusterError) as caught:
        session.read(json.dumps(seed_messages[0]).encode())
    assert caught.value.code == "already_registered"


@given(st.lists(st.floats(0, 10), max_size=200))
def test_a_bucket_never_gives_more_than_burst_and_rate(steps_s: list[float]) -> None:
    bucket = TokenBucket(rate_per_s=2.0, burst=5.0)
    now, given_out = 0.0, 0
    for step_s in steps_s:
        now += step_s
        given_out += bucket.take(now)
    assert given_out <= 5 + 2 * now + 1e-6
