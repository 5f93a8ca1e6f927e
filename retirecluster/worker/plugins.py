"""Task types that installed packages add: entry points of the group `retirecluster.task_types`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from attrs import field, frozen
from twisted.logger import Logger

import retirecluster.worker as here
from retirecluster.domain.schemas import PayloadSchema, SchemaError, payload_type, schema_problems
from retirecluster.domain.task_types import BUILT_IN, TYPE_NAME

GROUP = "retirecluster.task_types"
DESCRIBED_WITHIN_S = 20.0
log = Logger()


@frozen
class Plugins:
    """What this device adds: `targets` by task type as `module:name`, and those payload schemas that can be read."""

    targets: Mapping[str, str] = field(factory=dict)
    schemas: Mapping[str, PayloadSchema] = field(factory=dict)

    def payload_errors(self, task_type: str, payload: dict[str, Any]) -> str:
        """What is wrong with the payload of a type with a schema, in one line; empty if nothing is."""
        schema = self.schemas.get(task_type)
        return "; ".join(map(str, schema_problems([schema], payload)[:5])) if schema is not None else ""

    def documents(self) -> dict[str, dict[str, Any]]:
        """The schemas as the register message tells them."""
        return {name: dict(schema.document) for name, schema in self.schemas.items()}


def find_plugins(environ: Mapping[str, str]) -> Plugins:
    """The plug-ins that are installed beside the worker; each is asked in a process of its own what it takes.

    A type with a name that is built in or impossible is left out; one whose schema cannot be had is offered without.
    """
    targets = usable((each.name, each.value) for each in entry_points(group=GROUP))
    schemas = {name: schema for name, target in targets.items() if (schema := _schema(name, target, environ))}
    return Plugins(targets, schemas)


def usable(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Those of the entry points that may become task types; the others are logged."""
    targets = {}
    for name, target in found:
        if name in BUILT_IN or not re.fullmatch(TYPE_NAME.pattern, name):
            why = "is built in" if name in BUILT_IN else f"must be {TYPE_NAME.pattern_doc}"
            log.warn("plug-in {target} is left out: the task type {name} {why}", target=target, name=name, why=why)
            continue
        targets[name] = target
    return targets


def _schema(name: str, target: str, environ: Mapping[str, str]) -> PayloadSchema | None:
    try:
        document = _ask(target, environ)
        return None if document is None else PayloadSchema(document, payload_type(document))
    except (OSError, ValueError, subprocess.SubprocessError, SchemaError) as error:
        log.warn("plug-in {name}: its payloads are not checked: {why}", name=name, why=str(error)[-500:])
        return None


def _ask(target: str, environ: Mapping[str, str]) -> Any:
    program = os.path.join(os.path.dirname(here.__file__), "describe_plugin.py")
    places = [path for path in sys.path if path and os.path.isabs(path)]
    command = [sys.executable, "-I", "-S", "-X", "utf8", program, target, *places]
    done = subprocess.run(
        command, capture_output=True, env=dict(environ), stdin=subprocess.DEVNULL, timeout=DESCRIBED_WITHIN_S
    )
    if done.returncode:
        raise ValueError(done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}")
    return json.loads(done.stdout)
