"""The task type `python_call`: a function by its name, or a function and its arguments as a pickle.

What a pickle does when it is read, it does in the task's own process, like everything else of a task.
"""

from __future__ import annotations

import binascii
import pickle
import sys

from retirecluster.worker.runner import limits

TYPE_CHECKING = False  # typing itself is heavy
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from retirecluster.worker.runner.child import TaskContext

PYTHON = ".".join(map(str, sys.version_info[:2]))
NO_CLOUDPICKLE = "cloudpickle is not installed on the device: pip install 'retirecluster[call]' there"
REPR_CHARS = 2000


class Unreadable(Exception):
    """The payload cannot become a call on this device."""


def find_function(target: str) -> Callable[..., Any]:
    """What `module:name` stands for. Raises ImportError, AttributeError."""
    from importlib import import_module

    module, _, names = target.partition(":")
    found: Any = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    function: Callable[..., Any] = found
    return function


def read_call(payload: dict[str, Any]) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
    """Function, arguments, arguments by name. Raises Unreadable, and whatever reading a pickle may raise."""
    if payload.get("function"):
        return find_function(payload["function"]), payload.get("arguments") or [], payload.get("keywords") or {}
    if payload.get("python") != PYTHON:
        raise Unreadable(f"Python {PYTHON} here, the function was pickled by {payload.get('python')}")
    try:
        function, arguments, keywords = pickle.loads(binascii.a2b_base64(payload["call"]))
    except binascii.Error as error:
        raise Unreadable(f"the call is not base64: {error}") from None
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "cloudpickle":
            raise Unreadable(NO_CLOUDPICKLE) from None
        raise
    return function, list(arguments), dict(keywords)


def call(payload: dict[str, Any], context: TaskContext) -> bool:
    """Make the call and tell its value or its exception; True if it had a value."""
    from retirecluster.worker.runner.behaviours import last_lines

    try:
        function, arguments, keywords = read_call(payload)
    except Unreadable as error:
        context.give_error("payload", str(error), retryable=False)
        return False
    except Exception as error:
        context.give_error("payload", f"the call cannot be read here: {last_lines(error)}", retryable=False)
        return False
    try:
        value = function(*arguments, **keywords)
    except Exception as error:
        if not context.forked:
            again = payload.get("retry_exceptions") is not False
            _tell_exception(error, last_lines(error), context, again)
        return False
    return context.forked or _tell_value(value, context)


def _tell_value(value: Any, context: TaskContext) -> bool:
    try:
        data = dumps(value)
    except Exception as error:
        message = f"the value, {_repr(value)[:200]}, cannot be pickled: {type(error).__name__}: {error}"
        context.give_error("result", message, retryable=False)
        return False
    if len(data) > limits.PICKLE_BYTES:
        message = f"the value has {len(data)} bytes pickled; at most {limits.PICKLE_BYTES} are kept: leave it in a file"
        context.give_error("result", message, retryable=False)
        return False
    context.give_value({"python": PYTHON, "repr": _repr(value), "pickle": _base64(data)})
    return True


def _tell_exception(error: Exception, trace: str, context: TaskContext, retryable: bool) -> None:
    told: dict[str, Any] = {"python": PYTHON, "repr": _repr(error)}
    try:
        data = dumps(error.with_traceback(None))
        pickle.loads(data)  # many exceptions can be pickled, and not be read again
        if len(data) <= limits.PICKLE_BYTES:
            told["exception"] = _base64(data)
    except Exception:  # noqa: S110: then it is told as text alone
        pass
    context.give_value(told)
    context.note_limit(error)
    context.give_error("exception", trace, retryable)


def dumps(value: Any) -> bytes:
    """`value` pickled: by the standard library where it can, else by cloudpickle where that is there."""
    try:
        return pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        try:
            import cloudpickle
        except ImportError:
            pass
        else:
            return bytes(cloudpickle.dumps(value, protocol=5))
        raise


def _repr(value: Any) -> str:
    """Its repr, shortened; whatever the class of a task's value does there, there is a text."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= REPR_CHARS else text[: REPR_CHARS - 3] + "..."


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")
