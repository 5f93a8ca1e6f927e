"""Rules between the fields of a task: modes, scripts, calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from retirecluster.domain.devices import DeviceProfile
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.requirements import unmet
from retirecluster.domain.tasks import spec_from_document

SCRIPT = {"task_type": "python_script", "payload": {"source": "pass"}}
INPUT = {"name": "main.py", "sha256": "0" * 64}


def refused(document: dict[str, Any]) -> list[str]:
    with pytest.raises(ClusterError) as caught:
        spec_from_document(document)
    return [str(each) for each in caught.value.problems]


@pytest.mark.parametrize("task_type", ["command", "sleep", "http_request"])
def test_types_that_have_to_be_fresh(task_type: str) -> None:
    payload = {"command": {"argv": ["true"]}, "sleep": {"seconds": 1}, "http_request": {"url": "http://x/"}}[task_type]
    [problem] = refused({"task_type": task_type, "payload": payload, "mode": "warm"})
    assert problem == (
        "mode: warm is for echo, system_info, python_eval, python_script, python_call and types of plug-ins; "
        f"{task_type} has to be fresh"
    )


def test_the_submitter_is_the_mains_to_say() -> None:
    assert json.loads(spec_from_document(SCRIPT | {"mode": "warm"}, "", "anna").body)["submitter"] == "anna"
    assert "submitter" not in spec_from_document(SCRIPT).body
    assert spec_from_document({"task_type": "of_a_plug_in", "mode": "warm"}).body
    assert "submitter: is not a known field" in refused(SCRIPT | {"submitter": "anna"})[0]


def test_warm_tasks_have_no_files_and_no_checkpoints() -> None:
    problems = refused(SCRIPT | {"mode": "warm", "checkpoint": True, "files": {"inputs": [INPUT]}})
    assert [each.partition(":")[0] for each in problems] == ["files", "checkpoint"]


def test_a_script_is_a_text_or_one_of_the_inputs() -> None:
    script = {"task_type": "python_script", "files": {"inputs": [INPUT]}}
    assert spec_from_document(script | {"payload": {"file": "main.py"}})
    assert "payload.source: is required (or file)" in refused(script | {"payload": {}})[0]
    assert "stands beside source" in refused(script | {"payload": {"source": "x", "file": "main.py"}})[0]
    assert "must be the name of one of files.inputs, ['main.py']" in refused(script | {"payload": {"file": "b.py"}})[0]


def call(payload: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"task_type": "python_call", "payload": payload, **more}


def test_calls() -> None:
    assert spec_from_document(call({"function": "math:sqrt", "arguments": [4]})).requirements.python == ""
    assert spec_from_document(call({"call": "AAAA", "python": "3.11"})).requirements.python == "3.11"
    assert "payload.python: is required" in refused(call({"call": "AAAA"}))[0]
    assert "no multiple of 4" in refused(call({"call": "AAA", "python": "3.11"}))[0]
    assert (
        "payload.arguments: is for a function" in refused(call({"call": "AAAA", "python": "3.11", "arguments": []}))[0]
    )
    assert "such as math:factorial" in refused(call({"function": "os.system"}))[0]
    pickled = {"call": "AAAA", "python": "3.11"}
    assert "must be 3.11" in refused(call(pickled, requirements={"python": "3.12"}))[0]


def test_why_a_device_with_another_python_is_no_place() -> None:
    demand = spec_from_document(call({"call": "AAAA", "python": "3.11"})).requirements
    assert unmet(demand, "python_call", False, DeviceProfile("a", python_version="3.9.2")) == [
        "Python 3.9 there, the function was pickled by 3.11"
    ]
    assert unmet(demand, "python_call", False, DeviceProfile("a", python_version="3.11.7")) == []
    assert unmet(demand, "python_eval", False, DeviceProfile("a")) == [
        "Python of an unknown version there, the task asks for 3.11"
    ]
