"""`retire-cluster call`: a function of a Python module, called on a device."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show_json
from retirecluster.client.task_options import fields_from_options
from retirecluster.domain.errors import ClusterError

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi


async def call(context: Context, args: Namespace, api: ClusterApi) -> int:
    """Submit the call, wait for its end, print the value."""
    from retirecluster.client.calls import TaskFailed, call_document, find_function, unpack
    from retirecluster.client.following import exit_code_of, wait_with_output

    positional, named = split_arguments(args.arguments)
    document = call_document(find_function(args.function), tuple(positional), named, fields_from_options(args))
    task_id = (await api.submit(document))[0]["task_id"]
    task = await wait_with_output(api, context.reactor, context.console, task_id, args.wait_timeout, only_printed=True)
    result = await api.result(task_id)
    if task["status"] != "completed":
        return await exit_code_of(api, context.console, task)
    try:
        value = unpack(result)
    except TaskFailed as error:
        raise ClusterError("bad_field", f"call: {error}") from None
    if args.format == "json":
        show_json(context.console, _plain(value))
    else:
        context.console.line(value if isinstance(value, str) else repr(value))
    return 0


def split_arguments(words: list[str]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments by place and by name."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            named[name] = _value(value)
        elif named:
            raise ClusterError("bad_field", f"call: {word!r} comes after arguments by name; put it before them")
        else:
            positional.append(_value(word))
    return positional, named


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _plain(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


HANDLERS: Handlers = {"call": with_api(call)}
