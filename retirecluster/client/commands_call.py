"""`retire-cluster call`: a function of a Python module, called on a device."""

from __future__ import annotations

import json
from argparse import Namespace, RawDescriptionHelpFormatter
from typing import TYPE_CHECKING, Any

from retirecluster.client.context import Context, with_api
from retirecluster.client.formats import show_json
from retirecluster.client.parsing import Parser, duration
from retirecluster.client.task_options import add_task_options, fields_from_options
from retirecluster.domain.errors import ClusterError

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi

_EXAMPLES = """\
examples:
  retire-cluster call math:factorial 20
  retire-cluster call mymodule:resize photo.jpg width=640
  retire-cluster call --min-memory-gb 4 mymodule:train '[1, 2, 3]'

An argument that is JSON (20, true, [1, 2], "text") is that value, any other one is a string; NAME=VALUE goes by
name. Prints the value: a string as it is, else its repr; with --json as JSON. The exit code is 1 where the function
raised an exception, which is shown with its traceback on the device.
"""


def add_call(commands: Any, parents: list[Parser]) -> None:
    parser = commands.add_parser(
        "call",
        parents=parents,
        help="call a Python function on a device",
        description="Call a function of a module that can be imported here on a device, and print its value.",
        epilog=_EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="such as math:factorial")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="as JSON, or text; NAME=VALUE by name")
    parser.add_argument("--wait-timeout", type=duration, metavar="TIME", help="wait no longer than this")
    add_task_options(parser)
    parser.set_defaults(run=with_api(call))


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
