"""The OpenAPI 3.1 document of the table of routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from retirecluster import __version__
from retirecluster.domain.errors import ERRORS
from retirecluster.domain.fields import Field, Record
from retirecluster.domain.tasks import TASK_FIELDS, encode
from retirecluster.web.answers import JSON, PROBLEM
from retirecluster.web.routing import ADMIN, Route, variables

Schema = dict[str, Any]


def document_text(routes: Sequence[Route]) -> bytes:
    """The document as JSON."""
    return encode(document(routes)).encode("ascii")


def document(routes: Sequence[Route]) -> Schema:
    """The document: every route, its query, body and answers, and the schemas they share."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route)
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
            "responses": {"Problem": {"description": "What went wrong", "content": _content((PROBLEM,), "Problem")}},
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
        "responses": {
            str(route.status): _response(route),
            "default": {"$ref": "#/components/responses/Problem"},
        },
        "security": [{"bearer": []}, {"apiKey": []}] if route.role == ADMIN else [{}, {"bearer": []}, {"apiKey": []}],
    }
    parameters = [_variable(name) for name in variables(route)] + [_parameter(each) for each in route.query.fields]
    if route.takes:
        parameters += [_idempotency_key(), _submitter()]
        described["requestBody"] = {"required": True, "content": _content((JSON,), route.takes)}
        described["responses"]["200"] = _response(route)
    elif route.raw:
        described["requestBody"] = {"content": {"application/octet-stream": {"schema": {}}}}
    elif route.body is not None:
        described["requestBody"] = {"content": {JSON: {"schema": route.body.json_schema()}}}
    if route.validated:
        described["responses"]["304"] = {"description": "It is as it was: the ETag of If-None-Match still holds"}
    if parameters:
        described["parameters"] = parameters
    return described


def _response(route: Route) -> Schema:
    content: Schema = {}
    for media_type in route.media_types:
        enveloped = media_type == JSON and route.path.startswith("/api/") and not route.path.endswith(".json")
        schema = {"$ref": "#/components/schemas/Success"} if enveloped else {}
        content[media_type.partition(";")[0]] = {"schema": schema}
    return {"description": route.summary, "content": content}


def _tag(path: str) -> str:
    parts = [part for part in path.split("/") if part and part not in ("api", "v1")]
    return parts[0] if parts else "pages"


def _variable(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _parameter(each: Field) -> Schema:
    schema = each.type.json_schema()
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
