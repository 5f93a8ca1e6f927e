"""What the OpenAPI document says of answers: every status that a route can give, its headers, and where it leads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from retirecluster.web.answers import JSON, PROBLEM
from retirecluster.web.downloads import MEDIA_TYPE as BYTES
from retirecluster.web.routing import API, Route, changes_something, variables

Schema = dict[str, Any]

ALWAYS = (400, 401, 403, 500, 503)
"""A wrong Host or address, a token that is missing or wrong or not for this, a mistake of ours, a main that stops."""
HEADERS: dict[str, Schema] = {
    "X-Request-Id": {"description": "what the main's log calls this request", "required": True},
    "ETag": {"description": "for If-None-Match: 304 while it is as it was", "required": True},
    "Link": {"description": 'the next page, rel="next", where there is one'},
    "Location": {"description": "the address of what was made"},
    "Retry-After": {"description": "seconds after which to try again", "required": True},
    "WWW-Authenticate": {"description": "how to show a token", "required": True},
    "Upload-Offset": {"description": "how many bytes of the file are there"},
    "Upload-Complete": {"description": "?1 if the file is complete, else ?0"},
    "Content-Range": {"description": "which bytes these are, and of how many"},
}
_INTEGERS = {"Retry-After", "Upload-Offset"}
_PROBLEMS = {401: "Unauthorized", 429: "TryAgain", 503: "TryAgain", 507: "TryAgain"}


def headers(*names: str) -> Schema:
    """The headers of an answer; X-Request-Id is on every one."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-Id", *names)}


def components() -> Schema:
    """The headers and problem responses that operations share."""
    described = {
        name: each | {"schema": {"type": "integer" if name in _INTEGERS else "string"}}
        for name, each in HEADERS.items()
    }
    return {
        "headers": described,
        "responses": {
            "Problem": _problem("What went wrong"),
            "Unauthorized": _problem("A token is needed, and none or a wrong one was given", "WWW-Authenticate"),
            "TryAgain": _problem("Not now: try again after a while", "Retry-After"),
        },
    }


def _problem(text: str, *names: str) -> Schema:
    content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": text, "headers": headers(*names), "content": content}


def answers(route: Route) -> Schema:
    """The responses object of a route: statuses in order, each with its headers and what its body is."""
    found: dict[int, Schema] = {status: _refused(status) for status in refusals(route)}
    for status in successes(route):
        found[status] = _success(route, status)
    if route.validated or BYTES in route.media_types:
        found[304] = {
            "description": "It is as it was: the ETag of If-None-Match still holds",
            "headers": headers("ETag"),
        }
    return {str(status): found[status] for status in sorted(found)}


def successes(route: Route) -> set[int]:
    """The statuses of a route that bring what was asked for."""
    more = {200} if route.takes else {202} if route.raw else {206} if BYTES in route.media_types else set()
    return {route.status} | more


SOMETIMES: dict[tuple[str, str], set[int]] = {
    ("GET", f"{API}/attempts"): {404},  # of a device that is not known
    ("GET", f"{API}/ca"): {409},  # of a main that listens without TLS
    ("POST", f"{API}/command"): {404, 409, 504, 507},  # whatever the command's own address may answer
    ("POST", f"{API}/devices/{{device_id}}/ping"): {504},
    ("GET", "/ca.crt"): {404},
    ("GET", "/login"): {429},
    ("POST", "/login"): {429},
}
"""Statuses of single routes beyond what follows from their rows in the table."""


def refusals(route: Route) -> set[int]:
    """The statuses of a route that bring a problem."""
    found = set(ALWAYS)
    has_body = route.body is not None or bool(route.takes) or route.raw
    if variables(route):
        found.add(404)
    if route.query.fields or has_body or variables(route):
        found.add(422)
    if has_body:
        found |= {408, 413, 415}
    if route.takes or route.raw:
        found.add(507)
    if changes_something(route) or "{task_id}" in route.path:
        found.add(409)  # a prefix that fits several tasks, or a state that does not allow it
    if route.only_type or route.path.startswith("/text/"):
        found.add(406)
    if BYTES in route.media_types:
        found.add(416)
    return found | SOMETIMES.get((route.method, route.path), set())


def _refused(status: int) -> Schema:
    return {"$ref": f"#/components/responses/{_PROBLEMS.get(status, 'Problem')}"}


def _success(route: Route, status: int) -> Schema:
    content: Schema = {}
    for media_type in route.media_types:
        enveloped = media_type == JSON and route.path.startswith("/api/") and not route.path.endswith(".json")
        schema = {"$ref": "#/components/schemas/Success"} if enveloped else {}
        content[media_type.partition(";")[0]] = {"schema": schema}
    found = {"description": route.summary, "headers": headers(*_header_names(route, status)), "content": content}
    return found


def _header_names(route: Route, status: int) -> Iterable[str]:
    if route.validated or BYTES in route.media_types:
        yield "ETag"
    if any(each.name == "cursor" for each in route.query.fields) and route.path.startswith(API):
        yield "Link"
    if route.takes:
        yield "Location"
    if route.raw:
        yield from ("Upload-Offset", "Upload-Complete")
    if status == 206:
        yield "Content-Range"


LEADS = {
    "task_id": ("POST", f"{API}/tasks", "$response.body#/data/task_id"),
    "device_id": ("GET", f"{API}/devices", "$response.body#/data/devices/0/device_id"),
    "sha256": ("PUT", f"{API}/files/{{sha256}}", "$request.path.sha256"),
    "name": ("PUT", f"{API}/signals/{{name}}", "$request.path.name"),
}
"""For each variable of an address: the route whose answer tells a value for it, and where it stands there."""


def links(route: Route, routes: Iterable[Route]) -> Schema:
    """Where an answer of a route leads: the operations whose address it tells."""
    found: Schema = {}
    for name, (method, path, place) in LEADS.items():
        if (route.method, route.path) != (method, path):
            continue
        for other in routes:
            if variables(other) == [name] and other is not route and other.path.startswith((API, "/text/")):
                found[other.operation_id] = {"operationId": other.operation_id, "parameters": {name: place}}
    return found
