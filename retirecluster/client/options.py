"""From a function or a task type, its arguments and the options of the Python client to a task document."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from attrs import asdict, frozen

from retirecluster.client.calls import call_document
from retirecluster.client.task_errors import TaskFailed
from retirecluster.domain.errors import ClusterError

_FIELD_NAMES = {"timeout_s": "timeout", "retries": "max_retries"}


@frozen(kw_only=True)
class TaskOptions:
    """What is said of a task beside what it does; None leaves the main's default. `docs/tasks.md` has the fields.

    `timeout_s`, `deadline_s` and `grace_s` are seconds. `inputs` are paths of files here, brought into the task's
    folder under their last name, or `{"path": ..., "name": ...}`; `outputs` patterns of what is kept of that folder.
    `retries` are for attempts that lose their device or fail; a function that raises is called once, unless
    `retry_exceptions`.
    """

    retry_exceptions: bool = False
    name: str | None = None
    priority: str | None = None
    timeout_s: float | None = None
    deadline_s: float | None = None
    requirements: Mapping[str, Any] | None = None
    labels: Mapping[str, str] | None = None
    retries: int | None = None
    mode: str | None = None
    inputs: Iterable[str | os.PathLike[str] | Mapping[str, Any]] | None = None
    outputs: Iterable[str] | None = None
    limits: Mapping[str, Any] | None = None
    grace_s: float | None = None
    delivery: str | None = None
    on_disconnect: str | None = None
    verify: int | None = None
    checkpoint: bool | None = None

    def given(self) -> dict[str, Any]:
        """Those that are set."""
        return {name: value for name, value in asdict(self, recurse=False).items() if value is not None}

    def fields(self) -> dict[str, Any]:
        """The fields of the task document."""
        given = self.given()
        del given["retry_exceptions"]
        inputs, outputs = given.pop("inputs", None), given.pop("outputs", None)
        files: dict[str, Any] = {}
        if inputs is not None:
            files["inputs"] = [_input(each) for each in _listed(inputs, "inputs")]
        if outputs is not None:
            files["outputs"] = _listed(outputs, "outputs")
        fields = {_FIELD_NAMES.get(name, name): value for name, value in given.items()}
        return {**fields, "files": files} if files else fields

    def merged(self, changes: Mapping[str, Any]) -> TaskOptions:
        """These with some changed."""
        return TaskOptions(**{**asdict(self, recurse=False), **changes})


def _listed(value: Any, name: str) -> list[Any]:
    if isinstance(value, str | Mapping):
        raise ClusterError("bad_field", f"{name}: is a list; write {name}=[{value!r}]")
    return list(value)


def _input(each: str | os.PathLike[str] | Mapping[str, Any]) -> dict[str, Any]:
    return dict(each) if isinstance(each, Mapping) else {"path": os.fspath(each)}


def task_document(
    what: Callable[..., Any] | str, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: TaskOptions
) -> dict[str, Any]:
    """The document of a call of a function, or of a task type with its payload.

    All arguments are the function's own. With a task type its payload is given by name, or as one mapping, or both.
    Raises ClusterError, also where a function or an argument cannot be pickled.
    """
    if not isinstance(what, str):
        return _call(what, args, kwargs, options)
    if len(args) > 1 or not all(isinstance(each, Mapping) for each in args):
        hint = f"write submit({what!r}, name=value) or submit({what!r}, {{'name': value}})"
        raise ClusterError("bad_field", f"the payload of {what!r} goes by name, or as one mapping: {hint}")
    payload = {**(args[0] if args else {}), **kwargs}
    return {**options.fields(), "task_type": what, "payload": payload}


def in_chunks(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], chunksize: int, options: TaskOptions
) -> Iterable[dict[str, Any]]:
    """Documents of tasks that make `chunksize` calls each; their values are read by `values_of_chunk`."""
    rest = list(calls)
    for start in range(0, len(rest), chunksize):
        part = rest[start : start + chunksize]
        yield _call(_chunk_of(function), (part,), {}, options, inner=function)


def _call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    options: TaskOptions,
    inner: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    document = call_document(function, args, kwargs, options.fields(), inner)
    if not options.retry_exceptions:
        document["payload"]["retry_exceptions"] = False
    return document


def _chunk_of(function: Callable[..., Any]) -> Callable[..., Any]:
    # Nested, so that it travels as a value: devices need not have this module.
    def chunk(calls: list[tuple[Any, ...]]) -> tuple[list[Any], BaseException | None, str]:
        import traceback

        values = []
        for call in calls:
            try:
                values.append(function(*call))
            except Exception as error:
                return values, error, traceback.format_exc()
        return values, None, ""

    return chunk


def values_of_chunk(chunk: tuple[list[Any], BaseException | None, str]) -> Iterator[Any]:
    """The values in what a task of `in_chunks` gave; raises what stopped it, after those that came before."""
    values, error, trace = chunk
    values.reverse()
    while values:
        yield values.pop()
    if error is not None:
        raise error from TaskFailed("exception", trace)
