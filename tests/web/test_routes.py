"""Walks the table of routes: what each address answers to each method, with and without the token."""

from __future__ import annotations

import re
from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.access import PUBLIC, READ
from retirecluster.domain.errors import ERRORS
from retirecluster.web.openapi import document, operation
from retirecluster.web.routes import ROUTES
from retirecluster.web.routing import Route, changes_something, variables
from tests.web.http import Http, Response

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
NAMES = {
    "task_id": "task-nosuchtask00",
    "device_id": "nobody",
    "name": "index.html",
    "sha256": "0" * 64,
    "file_name": "a.txt",
    "token_id": "nothing",
}
READ_BY_FEW = {
    "/api/v1/audit",
    "/api/v1/audit/verify",
    "/api/v1/ca",
    "/api/v1/files",
    "/api/v1/tokens",
    "/text/audit",
}
"""Reads that need the token from this machine, too."""


CHANGED_BY_FEW = {"/api/v1/command", "/login", "/logout"}
"""A POST that anybody may send: what a line may do is up to its command; who signs in has not yet."""


def address(path: str) -> str:
    return path.format(**NAMES)


def check_every_answer(answer: Response) -> None:
    """What holds for every answer there is."""
    assert answer.headers.items() >= SECURITY_HEADERS.items()
    assert answer.headers["x-request-id"]
    assert "server" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def check_problem(answer: Response, path: str) -> None:
    """The shape of RFC 9457, and our members."""
    problem = answer.json
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "instance", "error_code", "request_id"}
    assert problem["status"] == answer.status
    assert problem["instance"] == path
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["error_code"] in ERRORS
    for each in problem.get("errors", ()):
        assert set(each) == {"field", "message"}


def check_documented(answer: Response, method: str, path: str) -> None:
    """An answer to a method that an address has is one of those that the OpenAPI document lists there."""
    routes = [route for route in at(path) if route.method == ("GET" if method == "HEAD" else method)]
    if routes:
        documented = {status for route in routes for status in operation(route)["responses"]}
        assert str(answer.status) in documented, (method, path, answer.status)


def at(path: str) -> list[Route]:
    """The routes that an address of `path` may lead to: /devices/summary is /devices/{device_id} too."""
    return [route for route in ROUTES if re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), address(path))]


def methods_of(path: str) -> set[str]:
    found = {route.method for route in at(path)}
    return found | ({"HEAD"} if "GET" in found else set())


@pytest_twisted.ensureDeferred
async def test_every_address_by_every_method_without_a_token(http: Http) -> None:
    anybody = (READ, PUBLIC)
    admin = {(route.method, path.path) for path in ROUTES for route in at(path.path) if route.role not in anybody}
    admin |= {("HEAD", path) for method, path in admin if method == "GET"}
    for path in sorted({route.path for route in ROUTES}):
        for method in METHODS:
            if path.startswith("/stream/") and method == "GET":
                continue  # they do not end
            answer = await http.call(method, address(path), token=False)
            check_every_answer(answer)
            if method not in methods_of(path):
                assert answer.status == 405, (method, path, answer)
                assert set(answer.headers["allow"].split(", ")) == methods_of(path)
            elif (method, path) in admin:
                assert answer.status == 401, (method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                if method != "HEAD":
                    assert answer.code == "unauthorized"
                    assert "admin.token" in answer.json["detail"]
            else:
                wanted = (404,) if "_id}" in path and method == "GET" else (200, 404)
                wanted = (422,) if method == "POST" else wanted  # without a body there is no line
                wanted = {"/logout": (200,), "/login": (422 if method == "POST" else 303,)}.get(path, wanted)
                assert answer.status in wanted, (method, path, answer)
            check_documented(answer, method, path)
            if answer.status >= 400 and method != "HEAD":
                check_problem(answer, address(path))


@pytest_twisted.ensureDeferred
async def test_every_change_with_a_wrong_token_or_a_wrong_body(http: Http) -> None:
    for route in ROUTES:
        if not changes_something(route):
            continue
        path = address(route.path)
        answer = await http.call(route.method, path, token=False, Authorization="Bearer wrong")
        assert (answer.status, answer.code) == (401, "unauthorized")
        answer = await http.call(route.method, path, token=False, X_API_Key="wrong")
        assert answer.status == 401
        answer = await http.call(route.method, path, body=b"{}", Content_Type="text/plain")
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
        answer = await http.call(route.method, path, {}, Content_Encoding="gzip")
        assert (answer.status, answer.code) == (415, "unsupported_media_type")
        if route.body is not None or route.takes:
            for body, code in ((b"{", "not_json"), (b"5", "not_an_object"), (b'{"a":NaN}', "bad_number")):
                answer = await http.call(route.method, path, body=body, Content_Type="application/json")
                assert (answer.status, answer.code) == (400, code), (path, answer.body)
                check_problem(answer, path)
            answer = await http.call(route.method, path, {"nonsense": 1})
            assert answer.status == 422 and answer.json["errors"], path


@pytest_twisted.ensureDeferred
async def test_addresses_that_are_not_there(http: Http) -> None:
    for path in (
        "/api",
        "/api/v1",
        "/api/v1/nothing",
        "/text",
        "/static/",
        "/static/../openapi.py",
        "/api/v1//devices",
    ):
        for method in ("GET", "POST"):
            answer = await http.call(method, path)
            assert (answer.status, answer.code) == (404, "not_found"), path
            check_every_answer(answer)
    answer = await http.get("/api/v1/devices/%ff%fe")
    assert (answer.status, answer.code) == (400, "bad_text")
    for path in (b"/api/v1/devices/\x8e", b"/\x80", b"/api/v1/devices/\x8e%41"):
        answer = await http.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (answer.status, answer.code) == (400, "bad_text"), path
        check_every_answer(answer)
    answer = await http.get("/static/..%2f__init__.py")
    assert answer.status == 404
    answer = await http.get("/static/__init__.py")
    assert answer.status == 404
    answer = await http.call("OPTIONS", "*")
    assert answer.status == 404


@pytest_twisted.ensureDeferred
async def test_request_ids_are_kept_if_they_are_sound(http: Http) -> None:
    assert (await http.get("/ready", X_Request_Id="abc.DEF-1_2")).headers["x-request-id"] == "abc.DEF-1_2"
    for bad in ("x" * 65, "a b", "a/b"):
        assert (await http.get("/ready", X_Request_Id=bad)).headers["x-request-id"] != bad


@pytest_twisted.ensureDeferred
async def test_queries_are_checked(http: Http) -> None:
    for query, field in (
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("limt=5", "limt"),
        ("status=runing", "status"),
        ("cursor=!!", "cursor"),
        ("label=nothing", "label"),
        ("device=%20", "device"),
    ):
        answer = await http.get(f"/api/v1/tasks?{query}")
        assert (answer.status, answer.code) == (422, "bad_field"), query
        assert answer.json["errors"][0]["field"] == field
    answer = await http.get("/api/v1/tasks?limt=5")
    assert "did you mean limit?" in answer.json["detail"]
    assert (await http.get("/api/v1/tasks/task-000000000000?wait=61")).status == 422


def test_the_role_follows_from_the_method() -> None:
    for route in ROUTES:
        changes = changes_something(route) and route.path not in CHANGED_BY_FEW
        needs_token = changes or route.path in READ_BY_FEW
        assert (route.role not in (READ, PUBLIC)) == needs_token, route.path
        assert route.summary
    assert len({route.operation_id for route in ROUTES}) == len(ROUTES)


def _found(value: Any, key: str) -> list[Any]:
    """What stands under a key anywhere in a document."""
    if isinstance(value, dict):
        own = [value[key]] if key in value else []
        return own + [found for each in value.values() for found in _found(each, key)]
    if isinstance(value, list):
        return [found for each in value for found in _found(each, key)]
    return []


def test_openapi_has_every_route_and_every_reference_leads_somewhere() -> None:
    described = document(ROUTES)
    assert described["openapi"].startswith("3.1")
    for route in ROUTES:
        found = described["paths"][route.path][route.method.lower()]
        in_path = [each["name"] for each in found["parameters"] if each["in"] == "path"] if variables(route) else []
        assert in_path == variables(route)
        assert set(found["responses"]) >= {str(route.status), "400", "401", "403", "500", "503"}
        assert "default" not in found["responses"], "which would allow any status"
        assert ("404" in found["responses"]) >= bool(variables(route))
        assert ("requestBody" in found) == (route.body is not None or bool(route.takes) or route.raw)
    assert sum(len(each) for each in described["paths"].values()) == len(ROUTES)
    operations = {each["operationId"] for methods in described["paths"].values() for each in methods.values()}
    leads = [each for each in _found(described, "links") if each]
    assert {link["operationId"] for each in leads for link in each.values()} <= operations and len(leads) == 4
    references = _found(described, "$ref")
    assert references
    for reference in references:
        place: Any = described
        for name in reference.removeprefix("#/").split("/"):
            place = place[name]


@pytest_twisted.ensureDeferred
async def test_streams_answer_as_the_document_says(http: Http) -> None:
    task_id = (await http.post("/api/v1/tasks", {"task_type": "echo", "payload": {}})).data["task_id"]
    streams = [route for route in ROUTES if route.path.startswith("/stream/")]
    assert len(streams) >= 5
    for route in streams:
        path = route.path.format(task_id=task_id)
        for answer in (
            await http.get(path, Accept="text/csv"),
            await http.get(f"{path}?nonsense=1"),
            await http.get(path, Host="evil.example"),
        ):
            assert 400 <= answer.status < 500
            check_documented(answer, "GET", route.path)
        stream = await http.stream(path)
        head, _, _ = stream.data.partition(b"\r\n\r\n")
        found = operation(route)["responses"]["200"]
        assert head.startswith(b"HTTP/1.1 200 ") and list(found["content"]) == ["text/event-stream"]
        assert b"\r\nContent-Type: text/event-stream" in head
        for name in found["headers"]:
            assert f"\r\n{name}: ".encode() in head
        await stream.leave()


@pytest_twisted.ensureDeferred
async def test_openapi_is_served(http: Http) -> None:
    assert (await http.get("/api/v1/openapi.json")).json["paths"].keys() == {route.path for route in ROUTES}


@pytest.mark.parametrize("error", ["boom", "database is locked"])
@pytest_twisted.ensureDeferred
async def test_mistakes_of_ours_are_logged_and_not_told(
    node: Any, http: Http, logged_failures: Any, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    import sqlite3

    def fail(*_: Any) -> Any:
        raise sqlite3.OperationalError(error) if "locked" in error else RuntimeError(error)

    monkeypatch.setattr("retirecluster.main.views.cluster_status", fail)
    answer = await http.get("/api/v1/cluster/status")
    logged = logged_failures.flush()
    check_every_answer(answer)
    if "locked" in error:
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "store_busy", "5")
        assert not logged
    else:
        assert (answer.status, answer.code) == (500, "internal")
        assert "boom" not in answer.text
        assert [event["request_id"] for event in logged] == [answer.headers["x-request-id"]]
