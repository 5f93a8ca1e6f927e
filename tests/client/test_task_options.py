"""The options of `submit` for how a task is run, and what a function on the command line becomes."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import pytest

from retirecluster.client.calls import call_document, find_function, pack, unpack
from retirecluster.client.commands_call import split_arguments
from retirecluster.client.task_errors import TaskFailed
from retirecluster.client.task_options import add_task_options, fields_from_options
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.limits import LIMIT_FIELDS
from retirecluster.domain.tasks import spec_from_document


def fields(*words: str) -> dict[str, Any]:
    parser = ArgumentParser()
    add_task_options(parser)
    return fields_from_options(parser.parse_args(words))


def test_how_a_task_is_run() -> None:
    assert fields("--mode", "warm", "--grace", "1m30s", "--checkpoint", "--python", "3.11") == {
        "mode": "warm",
        "grace_s": 90.0,
        "checkpoint": True,
        "requirements": {"python": "3.11"},
    }


def test_limits_by_short_and_by_full_names() -> None:
    words = ["memory=512MiB", "cpu-time=1m30s", "cpu_cores=0.5", "processes=20", "file-size=1.5G", "disk_bytes=10GB"]
    found = fields(*[word for each in words for word in ("--limit", each)])["limits"]
    assert found == {
        "memory_bytes": 512 * 1024**2,
        "cpu_time_s": 90.0,
        "cpu_cores": 0.5,
        "processes": 20,
        "file_size_bytes": 3 * 1024**3 // 2,
        "disk_bytes": 10**10,
    }
    assert not LIMIT_FIELDS.problems(found)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("memory", "known are memory, cpu-time"),
        ("memroy=1G", "did you mean memory?"),
        ("memory=lots", "memory: 'lots' is not a size; write for example 4096, 512MiB"),
        ("cpu-time=soon", "cpu-time: 'soon' is not a duration"),
        ("processes=2.5", "processes: '2.5' is not a whole number"),
        ("cpu-cores=x", "cpu-cores: 'x' is not a number"),
    ],
)
def test_what_is_no_limit_is_named(text: str, message: str) -> None:
    with pytest.raises(ClusterError, match="--limit") as caught:
        fields("--limit", text)
    assert message in caught.value.message


def test_arguments_of_a_call() -> None:
    assert split_arguments(["1", "text", "[1, null]", "a b=c", "x=2", "y=z"]) == (
        [1, "text", [1, None], "a b=c"],
        {"x": 2, "y": "z"},
    )
    with pytest.raises(ClusterError, match="after arguments by name"):
        split_arguments(["x=2", "1"])


@pytest.mark.parametrize("target", ["math", "math:", ":x", "no_such_module:f", "math:no_such_function"])
def test_what_is_no_function_is_named(target: str) -> None:
    with pytest.raises(ClusterError, match="call: "):
        find_function(target)


def test_a_call_is_a_task_for_this_python() -> None:
    document = call_document(max, (1, 2), {"default": 0}, {"mode": "warm", "timeout": 5})
    spec = spec_from_document(document)
    assert spec.requirements.python == document["payload"]["python"]
    assert spec.task_type == "python_call" and '"submitter":"admin"' in spec.body


def test_what_cannot_be_pickled_or_is_too_long_is_said() -> None:
    import threading

    with pytest.raises(ClusterError, match="cannot be pickled"):
        pack(print, (threading.Lock(),), {})
    with pytest.raises(ClusterError, match="at most 675000 fit a task"):
        pack(len, (b"x" * 700_000,), {})
    with pytest.raises(ClusterError, match="is no function"):
        pack("GET", (), {})  # type: ignore[arg-type]


def test_results_become_values_and_exceptions() -> None:
    import pickle
    from base64 import b64encode

    python = pack(len, ((),), {})["python"]

    def told(name: str, value: object) -> dict[str, Any]:
        return {"python": python, "repr": repr(value), name: b64encode(pickle.dumps(value)).decode()}

    assert unpack({"status": "completed", "output": told("pickle", [1])}) == [1]
    error = {"kind": "exception", "message": "Traceback ...\nKeyError: 'x'"}
    with pytest.raises(KeyError) as caught:
        unpack({"status": "failed", "output": told("exception", KeyError("x")), "error": error})
    assert isinstance(caught.value.__cause__, TaskFailed) and "Traceback" in str(caught.value.__cause__)
    with pytest.raises(TaskFailed, match="too long") as failed:
        unpack({"status": "failed", "output": None, "error": {"kind": "timeout", "message": "too long"}})
    assert failed.value.how == "timeout"
    with pytest.raises(TaskFailed, match=r"pickled by 3\.2"):
        unpack({"status": "completed", "output": told("pickle", 1) | {"python": "3.2"}})
