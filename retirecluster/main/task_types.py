"""Which task types there are now: those built in, and those that plug-ins on devices add."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import frozen

from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import nearest
from retirecluster.domain.scheduler import Device
from retirecluster.domain.schemas import PayloadSchema, schema_problems
from retirecluster.domain.task_types import BUILT_IN
from retirecluster.domain.tasks import TaskSpec


@frozen
class OfferedTypes:
    """The task types of all devices that are known."""

    devices: Mapping[str, Device]

    def check(self, specs: Sequence[TaskSpec]) -> None:
        """Raise ClusterError (`unknown_type`, `bad_field`, `missing_field`) for tasks that no device could run.

        Payloads of built-in types were checked before; those of plug-ins are by the schemas that devices told.
        """
        for index, spec in enumerate(specs):
            if spec.task_type in BUILT_IN:
                continue
            prefix = f"[{index}]." if len(specs) > 1 else ""
            schemas = list(self._schemas(spec.task_type))
            if not schemas:
                raise self._unknown(spec.task_type, f"{prefix}task_type")
            if None in schemas:
                continue
            problems = schema_problems(schemas, json.loads(spec.body)["payload"], f"{prefix}payload")
            if problems:
                raise invalid(problems)

    def _schemas(self, task_type: str) -> Iterator[PayloadSchema | None]:
        """What each device that offers a type says of its payload; None where it says nothing."""
        for device in self.devices.values():
            if task_type in (device.profile.task_types or ()):
                yield device.profile.task_schemas.get(task_type)

    def _unknown(self, task_type: str, path: str) -> ClusterError:
        known = sorted(self._offers())
        near = nearest(task_type, known)
        hint = f"did you mean {near}?" if near else f"known are {', '.join(known)}"
        return ClusterError("unknown_type", f"{path}: no device offers {task_type!a}; {hint}", field=path)

    def _offers(self) -> dict[str, list[str]]:
        offers: dict[str, list[str]] = {name: [] for name in BUILT_IN}
        for device in self.devices.values():
            types = BUILT_IN.keys() if device.profile.task_types is None else device.profile.task_types
            for name in types:
                offers.setdefault(name, []).append(device.device_id)
        return offers

    def documents(self) -> list[dict[str, Any]]:
        """Every task type, with its payload's JSON Schema and who offers it, by name."""
        return [self._document(name, devices) for name, devices in sorted(self._offers().items())]

    def _document(self, name: str, devices: list[str]) -> dict[str, Any]:
        known = BUILT_IN.get(name)
        told = next((each.document for each in self._schemas(name) if each is not None), {})
        schema = known.payload.json_schema() if known else told or {"type": "object"}
        doc = known.doc if known else str(told.get("description") or told.get("title") or "added by a plug-in")
        return {
            "task_type": name,
            "doc": f"{doc} {known.rules_doc}".strip() if known else doc,
            "payload": schema,
            "output": known.result_doc if known else "a JSON value",
            "runs_code": known.runs_code if known else True,
            "warm": known.warm if known else True,
            "devices": sorted(devices),
        }
