"""Python functions as tasks: pickled here, called on a device, and their value or exception brought back.

What comes back is a pickle that a device has made, and reading a pickle runs what it says: call functions only on
devices that may run code as you. cloudpickle is needed on both sides: pip install 'retirecluster[call]'.
"""

from __future__ import annotations

import binascii
import importlib
import os
import pickle
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from retirecluster.client.task_errors import TaskFailed, failure_of
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.requirements import PICKLED

PYTHON = ".".join(map(str, sys.version_info[:2]))
MAX_CALL_BYTES = 675_000
"""The longest pickle of a call: as base64 it fits a task."""


_PICKLING = threading.Lock()
"""Which modules travel is a setting of cloudpickle for the whole process: one pickle at a time."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_PICKLING.acquire, after_in_parent=_PICKLING.release, after_in_child=_PICKLING.release)


def pack(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    inner: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """The payload of a `python_call` task. Raises ClusterError where it cannot be made.

    The module of the function travels with it, unless it is an installed one, which the device has to have as well.
    `inner` is the function whose module that is, where `function` only wraps it.
    """
    if not callable(inner or function):
        raise ClusterError("bad_field", f"call: {inner or function!r} is no function")
    cloudpickle = _cloudpickle()
    own = _own_module(inner or function)
    with _PICKLING:
        try:
            if own is not None:
                cloudpickle.register_pickle_by_value(own)
            data: bytes = cloudpickle.dumps((function, args, dict(kwargs)), protocol=5)
        except Exception as error:
            what = f"call: {inner or function!r} or its arguments cannot be pickled: {error}"
            raise ClusterError("bad_field", what) from error
        finally:
            if own is not None:
                cloudpickle.unregister_pickle_by_value(own)
    if len(data) > MAX_CALL_BYTES:
        hint = "send large arguments as files"
        raise ClusterError("too_large", f"call: {len(data)} bytes pickled; at most {MAX_CALL_BYTES} fit a task: {hint}")
    return {"call": binascii.b2a_base64(data, newline=False).decode("ascii"), "python": PYTHON}


def call_document(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    task: Mapping[str, Any],
    inner: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """The task document of a call; `task` are more fields of it, `inner` is what `function` wraps."""
    name = str(getattr(inner or function, "__qualname__", ""))[:200]
    return {"name": name, **task, "task_type": PICKLED, "payload": pack(function, args, kwargs, inner)}


def unpack(result: Mapping[str, Any]) -> Any:
    """The value in the result of a call. Raises the exception that the function raised, with the text of its
    traceback on the device as its cause; or TaskFailed."""
    output = result.get("output")
    told: Mapping[str, Any] = output if isinstance(output, dict) else {}
    if result.get("status") == "completed" and "pickle" in told:
        return _read(told, "pickle", result)
    failed = failure_of(result)
    if "exception" not in told:
        raise failed
    try:
        exception = _read(told, "exception", result)
    except TaskFailed:  # of a class that is not here: its text has to do
        raise failed from None
    if not isinstance(exception, BaseException):
        raise failed
    raise exception from failed


def value_of(result: Mapping[str, Any]) -> Any:
    """What a task of any type gave: the value of a call, the output of others. Raises as `unpack`."""
    output = result.get("output")
    if isinstance(output, dict) and "python" in output and ("pickle" in output or "exception" in output):
        return unpack(result)
    if result.get("status") != "completed":
        raise failure_of(result)
    return output


def _read(told: Mapping[str, Any], name: str, result: Mapping[str, Any]) -> Any:
    if told.get("python") != PYTHON:
        other = f"Python {PYTHON} here, the value was pickled by {told.get('python')}: {told.get('repr')}"
        raise TaskFailed("result", other, result)
    try:
        return pickle.loads(binascii.a2b_base64(told[name]))
    except Exception as error:
        what = f"{told.get('repr')} cannot be read here: {type(error).__name__}: {error}"
        raise TaskFailed("result", what, result) from error


def find_function(target: str) -> Callable[..., Any]:
    """What `module:name` stands for, the current folder included. Raises ClusterError."""
    module, colon, name = target.partition(":")
    if not colon or not module or not name:
        raise ClusterError("bad_field", f"call: {target!r} is not MODULE:FUNCTION, as math:factorial")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ClusterError("bad_field", f"call: {target}: {error}") from None
    function: Callable[..., Any] = found
    return function


def _own_module(function: Callable[..., Any]) -> ModuleType | None:
    """The module of a function, where it is one of the user's own files."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    path = getattr(module, "__file__", None)
    if module is None or path is None or module.__name__ == "__main__":
        return None
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return None if any(Path(path).is_relative_to(place) for place in places if place) else module


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        hint = "pip install 'retirecluster[call]'"
        raise ClusterError("bad_config", f"calling functions needs cloudpickle: {hint}") from None
