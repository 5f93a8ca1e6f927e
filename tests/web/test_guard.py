"""Hosts, origins, tokens, caps and deadlines, over real sockets."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.web.http_headers import Headers

from retirecluster.domain.access import ADMIN, COOKIE, PUBLIC, TOKEN, Caller
from retirecluster.domain.errors import ClusterError
from retirecluster.web import connections
from retirecluster.web.guard import Guard, Peer, host_name, is_loopback
from tests.web.conftest import http_of
from tests.web.http import Http, parse, wire
from tests.web.test_routes import check_every_answer, check_problem

ECHO = {"task_type": "echo", "payload": {"message": "hello"}}


def guard(*hosts: str, trusted_network: bool = False) -> Guard:
    tokens = {"right": Caller(ADMIN, TOKEN, "admin", key="1")}
    sessions = {"sweet": Caller(ADMIN, COOKIE, "admin", key="2")}
    return Guard.create(hosts, tokens.get, trusted_network=trusted_network, sessions=sessions.get)


def refusal(check: Guard, method: str = "GET", peer: str = "127.0.0.1", local: str = "127.0.0.1", **given: str) -> str:
    headers = Headers({"Host": ["localhost"]})
    for name, value in given.items():
        headers.setRawHeaders(name.replace("_", "-"), [value])
    try:
        caller = check.check_head(method.encode(), headers, Peer(peer, local))
    except ClusterError as error:
        return error.code
    return "unauthorized" if caller.role == PUBLIC else ""


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LOCALHOST:5000", "localhost"),
        ("[::1]:5000", "[::1]"),
        ("[::1]", "[::1]"),
        ("a:b", None),
        ("a:1:2", None),
        ("[::1]x", None),
        ("", None),
        ("::1", None),
    ],
)
def test_names_in_host_headers(host: str, name: str | None) -> None:
    assert host_name(host) == name


def test_hosts() -> None:
    check = guard("pi.local", "fd00::5")
    for host in ("localhost", "127.0.0.1:80", "[::1]:5000", "pi.local", "PI.local:5000", "[fd00::5]:1"):
        assert refusal(check, Host=host) == "", host
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "pi.local@evil", "pi.local:x", "0x7f.1"):
        assert refusal(check, Host=host) == "bad_host", host
    assert refusal(check, Host="192.168.1.9:5000") == "bad_host"
    assert refusal(check, Host="192.168.1.9:5000", local="192.168.1.9") == ""


def test_origins() -> None:
    check = guard()
    for method in ("POST", "DELETE", "PUT", "PATCH", "ANYTHING"):
        assert refusal(check, method, Origin="http://localhost") == ""
        assert refusal(check, method, Sec_Fetch_Site="same-origin") == ""
        assert refusal(check, method, Sec_Fetch_Site="none") == ""
        for origin in ("http://evil.example", "null", "http://localhost:81", "http://localhost.evil"):
            assert refusal(check, method, Origin=origin) == "forbidden", origin
        for site in ("cross-site", "same-site", ""):
            assert refusal(check, method, Sec_Fetch_Site=site) == "forbidden"
    assert refusal(check, "GET", Origin="http://evil.example", Sec_Fetch_Site="cross-site") == ""


def test_reading_from_elsewhere() -> None:
    assert refusal(guard(), peer="192.168.1.7") == "unauthorized"
    assert refusal(guard(), peer="192.168.1.7", Authorization="Bearer right") == ""
    assert refusal(guard(), peer="192.168.1.7", X_API_Key="right") == ""
    assert refusal(guard(), peer="192.168.1.7", X_API_Key="wrong") == "unauthorized"
    assert refusal(guard(trusted_network=True), peer="192.168.1.7") == ""
    assert refusal(guard(), X_Forwarded_For="8.8.8.8") == "unauthorized"
    assert [is_loopback(each) for each in ("127.0.0.9", "::1", "::ffff:127.0.0.1", "10.0.0.1", "x")] == [
        True,
        True,
        True,
        False,
        False,
    ]


@pytest_twisted.ensureDeferred
async def test_hosts_over_the_wire(make_node: Any) -> None:
    http = http_of(make_node(allowed_hosts=["attic.lan"]))
    for host in ("attic.lan", "attic.lan:5000", "localhost:1", "[::1]"):
        assert (await http.get("/ready", Host=host)).status == 200
    answer = await http.get("/ready", Host="evil.example")
    assert (answer.status, answer.code) == (400, "bad_host")
    check_every_answer(answer)
    check_problem(answer, "/ready")
    for head in ("", "Host: localhost\r\nHost: localhost\r\n"):
        answer = await http.raw(f"GET /ready HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        assert (answer.status, answer.code) == (400, "bad_host")


@pytest_twisted.ensureDeferred
async def test_changes_from_other_sites_are_refused(http: Http) -> None:
    answer = await http.post("/api/v1/tasks", ECHO, Origin="http://evil.example")
    assert (answer.status, answer.code) == (403, "forbidden")
    answer = await http.post("/api/v1/tasks", ECHO, Sec_Fetch_Site="cross-site")
    assert (answer.status, answer.code) == (403, "forbidden")
    answer = await http.post(
        "/api/v1/tasks", ECHO, Origin=f"http://127.0.0.1:{http.port}", Sec_Fetch_Site="same-origin"
    )
    assert answer.status == 201
    assert (await http.get("/api/v1/tasks")).data["tasks"][0]["task_id"] == answer.data["task_id"]


@pytest_twisted.ensureDeferred
async def test_a_body_over_the_cap_is_refused_before_it_is_read(http: Http) -> None:
    for headers in ({}, {"Expect": "100-continue"}):
        connection = await wire(http.port)
        lines = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": str(17 * 2**20)} | headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        connection.send(f"POST /api/v1/tasks HTTP/1.1\r\n{head}\r\n".encode())
        answer = parse(await connection.end())
        assert (answer.status, answer.code) == (413, "too_large")
        assert answer.headers["connection"] == "close"
        check_every_answer(answer)
        check_problem(answer, "/api/v1/tasks")


@pytest_twisted.ensureDeferred
async def test_a_chunked_body_over_the_cap_is_cut(http: Http) -> None:
    connection = await wire(http.port)
    connection.send(
        f"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {http.token}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    piece = b"%x\r\n" % 2**20 + b" " * 2**20 + b"\r\n"
    for _ in range(18):
        connection.send(piece)
    answer = parse(await connection.end())
    assert (answer.status, answer.code) == (413, "too_large")


@pytest_twisted.ensureDeferred
async def test_without_the_token_the_cap_is_small(http: Http) -> None:
    answer = await http.call("POST", "/api/v1/tasks", body=b" " * 70_000, token=False, Content_Type="application/json")
    assert (answer.status, answer.code) == (401, "unauthorized")


@pytest_twisted.ensureDeferred
async def test_a_large_body_within_the_cap_is_taken(http: Http) -> None:
    tasks = [{"task_type": "echo", "payload": {"message": "x" * 900_000}} for _ in range(12)]
    answer = await http.post("/api/v1/tasks", tasks)
    assert answer.status == 201 and len(answer.data["tasks"]) == 12


@pytest_twisted.ensureDeferred
async def test_a_refused_small_body_leaves_the_connection_usable(http: Http) -> None:
    connection = await wire(http.port)
    connection.send(
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil\r\nContent-Length: 2\r\n\r\n{}"
        b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    data = await connection.end()
    assert data.startswith(b"HTTP/1.1 403 ") and b'{"ready":true' in data


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(600)) + b"\r\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_what_is_not_http_is_answered_with_a_problem_too(http: Http, request_bytes: bytes) -> None:
    answer = await http.raw(request_bytes)
    assert answer.status == 400
    assert answer.code == "bad_field"
    check_every_answer(answer)


@pytest_twisted.ensureDeferred
async def test_tls_to_a_port_without_it_is_ended_at_once(http: Http) -> None:
    connection = await wire(http.port)
    connection.send(b"\x16\x03\x01\x00\xa5\r\n\r\n")
    assert await connection.end() == b""  # nothing that could be read as TLS
    assert (await http.get("/ready")).status in (200, 503)


@pytest_twisted.ensureDeferred
async def test_a_slow_head_is_ended(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.2)
    http = http_of(make_node())
    connection = await wire(http.port)
    connection.send(b"GET /ready HTTP/1.1\r\nHost: loc")
    answer = parse(await connection.end())
    assert (answer.status, answer.code) == (408, "timeout")
    check_every_answer(answer)


@pytest_twisted.ensureDeferred
async def test_a_slow_body_is_ended(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BODY_GRACE_S", 0.2)
    http = http_of(make_node())
    connection = await wire(http.port)
    connection.send(
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    assert parse(await connection.end()).status == 408


@pytest_twisted.ensureDeferred
async def test_an_idle_connection_is_closed(make_node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.2)
    http = http_of(make_node())
    connection = await wire(http.port)
    connection.send(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert parse(await connection.end()).status == 200


@pytest_twisted.ensureDeferred
async def test_connections_over_the_cap_are_told(node: Any, http: Http) -> None:
    node.site.max_connections = 2
    held = [await wire(http.port) for _ in range(2)]
    answer = parse(await (await wire(http.port)).end())
    assert (answer.status, answer.code) == (503, "too_many_connections")
    assert answer.headers["retry-after"] == "5"
    for each in held:
        await each.leave()
