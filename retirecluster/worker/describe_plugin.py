"""Asks one plug-in what it takes: `python -I -S describe_plugin.py MODULE:NAME PATH...` prints its schema as JSON.

A program of its own, so that what a plug-in imports is never in the worker. It prints the schema of the payload
(`payload_schema` on the function; its docstring becomes the description), or null.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module


def main(arguments: list[str]) -> int:
    target, *paths = arguments
    answer = os.dup(1)
    os.dup2(2, 1)  # what the plug-in prints while it is imported is no answer
    sys.path.extend(path for path in paths if path not in sys.path)
    module, _, names = target.partition(":")
    found = import_module(module)
    for name in names.split("."):
        found = getattr(found, name)
    schema = getattr(found, "payload_schema", None)
    if isinstance(schema, dict) and "description" not in schema and found.__doc__:
        schema = {"description": found.__doc__.strip().splitlines()[0], **schema}
    os.write(answer, json.dumps(schema).encode("ascii"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
