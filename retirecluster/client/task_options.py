"""From the options of `submit` to the part of a task document that they give; the table of them is the domain's."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from retirecluster.client.local_files import local_inputs
from retirecluster.client.parsing import add_options
from retirecluster.domain.commands.task_options import document_from, task_options


def add_task_options(parser: ArgumentParser) -> None:
    """Give a parser all options of a task."""
    add_options(parser, task_options())


def fields_from_options(args: Namespace) -> dict[str, Any]:
    """The part of a task document that the options give; fields that were not given are left out."""
    document = document_from(vars(args))
    files = _files(args)
    return document | ({"files": files} if files else {})


def _files(args: Namespace) -> dict[str, Any]:
    """`files` as the options say, its inputs with the `path` of each: they are uploaded before it is submitted."""
    files: dict[str, Any] = {}
    if args.task_inputs:
        files["inputs"] = local_inputs(args.task_inputs)
    if args.task_outputs:
        files["outputs"] = args.task_outputs
    return files


def merged(document: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """A task from a file with the options for what it does not say itself."""
    result = options | document
    for name in ("requirements", "labels", "limits", "files"):
        if options.get(name) and isinstance(document.get(name), dict):
            result[name] = options[name] | document[name]
    return result
