"""The OpenAPI 3.1 document of the table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retirecluster import __version__
from retirecluster.domain.access import PUBLIC, READ
from retirecluster.domain.devices import DEVICE_ID
from retirecluster.domain.errors import ERRORS
from retirecluster.domain.fields import Field, FieldType, Record, Text
from retirecluster.domain.files import DIGEST, FILE_NAME
from retirecluster.domain.policy_fields import SIGNAL_NAME
from retirecluster.domain.tasks import TASK_FIELDS, encode
from retirecluster.web import tabular
from retirecluster.web.answers import JSON
from retirecluster.web.openapi_answers import answers, components, links
from retirecluster.web.routing import Route, variables
from retirecluster.wire.messages import TASK_ID

Schema = dict[str, Any]


def document_text(routes: Sequence[Route]) -> bytes:
    """The document as JSON."""
    return encode(document(routes)).encode("ascii")


def document(routes: Sequence[Route]) -> Schema:
    """The document: every route, its query, body and answers, and the schemas they share."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        described = operation(route)
        if leads := links(route, routes):
            described["responses"][str(route.status)]["links"] = leads
        paths.setdefault(route.path, {})[route.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "retire-cluster",
            "version": __version__,
            "description": "The HTTP doors of a retire-cluster main node. Times are ISO 8601 in UTC, durations are in "
            "seconds, sizes in bytes. Reading needs no token from the main's own machine; changing does.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            **components(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def operation(route: Route) -> Schema:
    """One route as an operation object."""
    described: Schema = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "responses": answers(route),
        "security": [*([{}] if route.role in (PUBLIC, READ) else []), {"bearer": []}, {"apiKey": []}],
    }
    parameters = [_variable(route, name) for name in variables(route)]
    parameters += [_parameter(route, each) for each in route.query.fields]
    if route.takes:
        parameters += [_idempotency_key(), _submitter()]
        described["requestBody"] = {"required": True, "content": _content((JSON,), route.takes)}
    elif route.raw:
        described["requestBody"] = {"content": {"application/octet-stream": {"schema": {}}}}
    elif route.body is not None:
        content = {JSON: {"schema": route.body.json_schema()}}
        described["requestBody"] = {"required": bool(route.body.required), "content": content}
    if parameters:
        described["parameters"] = parameters
    return described


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and part not in ("api", "v1")]
    return parts[0] if parts else "pages"


VARIABLES: dict[str, FieldType] = {
    "task_id": TASK_ID,
    "device_id": DEVICE_ID,
    "sha256": DIGEST,
    "file_name": FILE_NAME,
    "name": SIGNAL_NAME,
}
"""What the variable parts of an address may be: whole, though the beginning of a task id is taken, too."""
PLAIN = Text(128, 1)


def _variable(route: Route, name: str) -> Schema:
    kind = PLAIN if route.path.startswith("/static/") else VARIABLES.get(name, PLAIN)
    return {"name": name, "in": "path", "required": True, "schema": kind.json_schema()}


def _parameter(route: Route, each: Field) -> Schema:
    schema = each.type.json_schema()
    if each.name == "format":  # not choices of the field: another one is a matter of 406, which names what there is
        formats = [name for name, media_type in tabular.MEDIA_TYPES.items() if media_type in route.media_types]
        schema = {"type": "string", "enum": formats}
    if each.default is not None and isinstance(each.default, str | int | float) and each.default != "":
        schema["default"] = each.default
    found: Schema = {"name": each.name, "in": "query", "required": each.required, "schema": schema}
    return found | ({"description": each.doc} if each.doc else {})


def _idempotency_key() -> Schema:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "for a single task: the same key and body again give the same task, answered with 200",
        "schema": {"type": "string", "maxLength": 200},
    }


def _submitter() -> Schema:
    return {
        "name": "Submitter",
        "in": "header",
        "description": "who submits, of those who have the token: warm tasks of different submitters share no process",
        "schema": {"type": "string", "maxLength": 100},
    }


def _content(media_types: Sequence[str], schema: str) -> Schema:
    return {each: {"schema": {"$ref": f"#/components/schemas/{schema}"}} for each in media_types}


def schemas() -> Schema:
    """The schemas that operations share."""
    return {
        "Task": _described(TASK_FIELDS, "A task as it is submitted"),
        "TaskOrTasks": {
            "oneOf": [
                {"$ref": "#/components/schemas/Task"},
                {"type": "array", "items": {"$ref": "#/components/schemas/Task"}, "minItems": 1, "maxItems": 10_000},
            ]
        },
        "Success": {
            "type": "object",
            "required": ["status", "data"],
            "properties": {"status": {"const": "success"}, "data": {}},
        },
        "Problem": _problem(),
    }


def _described(record: Record, text: str) -> Schema:
    return {"description": text} | record.json_schema()


def _problem() -> Schema:
    text = {"type": "string"}
    return {
        "description": "RFC 9457",
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance", "error_code", "request_id"],
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "instance": text,
            "error_code": {"type": "string", "enum": sorted(ERRORS)},
            "request_id": text,
            "errors": {
                "type": "array",
                "items": {"type": "object", "properties": {"field": text, "message": text}, "required": ["message"]},
            },
        },
    }
