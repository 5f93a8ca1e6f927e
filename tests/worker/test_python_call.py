"""python_call: functions by name and as pickles, their values and their exceptions, in a real runner."""

from __future__ import annotations

import pickle
import sys
import sysconfig
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from tests.worker.runner_client import Report, RunnerClient

PYTHON = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[RunnerClient]:
    """A runner whose tasks find installed packages."""
    client = RunnerClient(tmp_path / "scratch", sysconfig.get_paths()["purelib"])
    yield client
    client.close()


def pickled(function: Any, *arguments: Any, **keywords: Any) -> dict[str, Any]:
    data = cloudpickle.dumps((function, arguments, keywords))
    return {"call": b64encode(data).decode(), "python": PYTHON}


def value_of(report: Report) -> Any:
    assert "error" not in report, report
    return pickle.loads(b64decode(report["value"]["pickle"]))


class Exploding(Exception):
    """Cannot be read back: it needs two arguments."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(one + two)


def test_a_function_by_its_name(calls: RunnerClient) -> None:
    report = calls.run("python_call", {"function": "math:factorial", "arguments": [20]})
    assert (value_of(report), report["value"]["repr"]) == (2432902008176640000, "2432902008176640000")
    payload = {"function": "json:dumps", "arguments": [{"b": 1, "a": 2}], "keywords": {"sort_keys": True}}
    assert value_of(calls.run("python_call", payload)) == '{"a": 2, "b": 1}'


def test_a_pickled_function_with_what_it_closes_over(calls: RunnerClient) -> None:
    factor = 6
    assert value_of(calls.run("python_call", pickled(lambda x, y=0: factor * x + y, 7, y=0))) == 42


def test_a_value_that_only_cloudpickle_can_pickle(calls: RunnerClient) -> None:
    double = value_of(calls.run("python_call", pickled(lambda: lambda x: 2 * x)))
    assert double(21) == 42


def test_an_exception_comes_back_with_its_traceback(calls: RunnerClient) -> None:
    def divide(number: int) -> float:
        return number / 0

    report = calls.run("python_call", pickled(divide, 1))
    assert report["code"] == 1
    assert (report["error"]["kind"], report["error"]["retryable"]) == ("exception", True)
    assert report["error"]["message"].endswith("ZeroDivisionError: division by zero")
    assert "in divide" in report["error"]["message"] and "runner" not in report["error"]["message"]
    error = pickle.loads(b64decode(report["value"]["exception"]))
    assert isinstance(error, ZeroDivisionError)
    report = calls.run("python_call", pickled(divide, 1) | {"retry_exceptions": False})
    assert (report["error"]["kind"], report["error"]["retryable"]) == ("exception", False)


def test_an_exception_that_cannot_be_read_again_comes_as_text(calls: RunnerClient) -> None:
    def explode() -> None:
        raise Exploding("a", "b")

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        report = calls.run("python_call", pickled(explode))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    assert report["error"]["message"].endswith("Exploding: ab")
    assert "exception" not in report["value"] and "Exploding" in report["value"]["repr"]


def test_another_python_is_refused_with_both_named(calls: RunnerClient) -> None:
    error = calls.run("python_call", pickled(abs, 1) | {"python": "3.2"})["error"]
    assert (error["kind"], error["retryable"]) == ("payload", False)
    assert error["message"] == f"Python {PYTHON} here, the function was pickled by 3.2"


@pytest.mark.parametrize(
    "call", ["AAAA", b64encode(b"\x80\x05K\x01.").decode(), b64encode(b"cno_such\nthing\n.").decode()]
)
def test_what_is_no_call_is_refused(calls: RunnerClient, call: str) -> None:
    error = calls.run("python_call", {"call": call, "python": PYTHON})["error"]
    assert (error["kind"], error["retryable"]) == ("payload", False)


def test_without_cloudpickle_on_the_device_it_says_what_to_install(runner: RunnerClient) -> None:
    error = runner.run("python_call", pickled(lambda: 1))["error"]
    assert "pip install 'retirecluster[call]'" in error["message"]


def test_a_result_that_is_too_large_is_refused_with_its_size(calls: RunnerClient) -> None:
    error = calls.run("python_call", {"function": "builtins:bytes", "arguments": [700_000]})["error"]
    assert (error["kind"], error["retryable"]) == ("result", False)
    assert "700" in error["message"] and "600000 are kept" in error["message"]
    assert len(value_of(calls.run("python_call", {"function": "builtins:bytes", "arguments": [599_000]}))) == 599_000


def test_a_value_that_cannot_be_pickled_is_named(calls: RunnerClient) -> None:
    error = calls.run("python_call", {"function": "_thread:allocate_lock"})["error"]
    assert error["kind"] == "result" and "lock" in error["message"]


def test_recursion_without_end_is_an_exception(calls: RunnerClient) -> None:
    def deeper(n: int) -> int:
        return deeper(n + 1)

    error = calls.run("python_call", pickled(deeper, 0))["error"]
    assert error["kind"] == "exception" and "RecursionError" in error["message"]


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("__import__('os')._exit(9)",))


class Hog:
    def __reduce__(self) -> tuple[Any, ...]:
        return (eval, ("[0] * (1 << 40)",))


def test_pickle_bombs_hurt_their_task_alone(calls: RunnerClient) -> None:
    report = calls.run("python_call", pickled(abs, Bomb()))
    assert report["code"] == 9
    report = calls.run("python_call", pickled(abs, Hog()))
    assert report["error"]["kind"] == "payload" and "MemoryError" in report["error"]["message"]
    assert value_of(calls.run("python_call", {"function": "builtins:abs", "arguments": [-1]})) == 1


def test_a_forked_child_of_a_call_has_nothing_to_say(calls: RunnerClient) -> None:
    def split() -> str:
        import os

        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        return "parent" if pid else "child"

    assert value_of(calls.run("python_call", pickled(split))) == "parent"
