"""Who may do what: every route by every role, tokens, sessions, login links, and what they leave behind."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import pytest
import pytest_twisted

from retirecluster.domain.access import ADMIN, OPERATOR, PUBLIC, READ, ROLES, SUBMIT, Caller
from retirecluster.domain.login_attempts import PER_ADDRESS
from retirecluster.main.access import SESSION_S, digest_of
from retirecluster.web.guard import Peer, cookie_in, cookie_name, is_secure
from retirecluster.web.routes import ROUTES
from tests.web.conftest import http_of
from tests.web.http import Http, Response
from tests.web.test_routes import address, check_every_answer, check_problem

ECHO = {"task_type": "echo", "payload": {"message": "hello"}}


async def token_of(http: Http, role: str, **more: Any) -> str:
    made = await http.post("/api/v1/tokens", {"name": more.pop("name", f"a-{role}"), "role": role, **more})
    assert made.status == 201, made.body
    token: str = made.data["token"]
    return token


async def cookie_of(http: Http, token: str) -> str:
    """A session's cookie, as a browser sends it."""
    answer = await http.call("POST", "/login", {"token": token}, token=False)
    assert answer.status == 200, answer.body
    return answer.headers["set-cookie"].partition(";")[0]


def as_bearer(token: str) -> dict[str, Any]:
    return {"token": False, "Authorization": f"Bearer {token}"}


def test_roles_form_a_line() -> None:
    order = list(ROLES)
    assert order == [READ, SUBMIT, OPERATOR, ADMIN]
    for have in order:
        for needed in order:
            assert Caller(have, "token").may(needed) == (order.index(have) >= order.index(needed))
        assert Caller(have, "token").may(PUBLIC)
    for stranger in (PUBLIC, "device", "", "root"):
        assert not any(Caller(stranger, "token").may(needed) for needed in order), stranger


@pytest.mark.parametrize("by", ["token", "cookie"])
@pytest_twisted.ensureDeferred
async def test_every_route_by_every_role(http: Http, by: str) -> None:
    """Below the role of its row a route says which role it needs and which was shown; with it, it never does."""
    own = f"http://127.0.0.1:{http.port}"
    tried = 0
    for role in ROLES:
        token = await token_of(http, role)
        shown = as_bearer(token)
        if by == "cookie":
            shown = {"token": False, "Cookie": await cookie_of(http, token), "Origin": own}
        for route in ROUTES:
            if route.path.startswith("/stream/") or route.path in ("/login", "/logout"):
                continue  # they do not end, or end what is tested here
            path = address(route.path)
            answer = await http.call(route.method, path, **shown)
            allowed = Caller(role, "token").may(route.role)
            assert (answer.status == 403) != allowed, (role, route.method, route.path, answer)
            if not allowed:
                assert f"needs the role {route.role}" in answer.json["detail"]
                assert answer.json["detail"].endswith(f"token:a-{role} has the role {role}")
                check_problem(answer, path)
            tried += 1
    assert tried > 4 * 60


@pytest_twisted.ensureDeferred
async def test_streams_by_role(make_node: Any) -> None:
    node = make_node()
    http = http_of(node)
    for route in ROUTES:
        if route.path.startswith("/stream/"):
            assert route.role == READ, "who may read may listen; the guard tests who may read"
    token = await token_of(http, READ)
    wire = await http.stream("/stream/events", f"Authorization: Bearer {token}")
    await wire.leave()


@pytest_twisted.ensureDeferred
async def test_submit_acts_on_its_own_tasks_alone(http: Http) -> None:
    mine, other = await token_of(http, SUBMIT, name="mine"), await token_of(http, SUBMIT, name="other")
    operator = await token_of(http, OPERATOR)
    task = (await http.call("POST", "/api/v1/tasks", ECHO, **as_bearer(mine), Submitter="alice")).data["task_id"]
    assert (await http.get(f"/api/v1/tasks/{task}")).data["submitted_by"] == "token:mine/alice"
    for action in ("hold", "release", "hold", "cancel", "retry"):
        address = f"/api/v1/tasks/{task}/{action}"
        refused = await http.call("POST", address, {}, **as_bearer(other))
        assert (refused.status, refused.code) == (403, "forbidden"), action
        assert "token:mine/alice" in refused.json["detail"] and "operator" in refused.json["detail"]
        assert (await http.call("POST", address, {}, **as_bearer(mine))).status in (200, 201), action
    task = (await http.call("POST", "/api/v1/tasks", ECHO, **as_bearer(mine))).data["task_id"]
    assert (await http.call("POST", f"/api/v1/tasks/{task}/cancel", {}, **as_bearer(operator))).status == 200
    rows = (await http.call("GET", "/api/v1/audit?action=task.cancel")).data["audit"]
    assert [(row["actor"], row["role"], row["address"]) for row in rows] == [
        ("token:a-operator", OPERATOR, "127.0.0.1"),
        ("token:mine", SUBMIT, "127.0.0.1"),
    ]
    line = {"line": f"tasks cancel {task}"}
    answer = await http.call("POST", "/api/v1/command", line, **as_bearer(other))
    assert answer.status == 403, "a command has no other rights"


@pytest_twisted.ensureDeferred
async def test_a_token_is_listed_used_and_revoked(node: Any, http: Http) -> None:
    made = (await http.post("/api/v1/tokens", {"name": "ci", "role": SUBMIT, "ttl_s": 3600}, X_Request_Id="abc-1")).data
    token, token_id = made["token"], made["token_id"]
    assert len(token) >= 43
    [listed] = (await http.call("GET", "/api/v1/tokens")).data["tokens"]
    assert set(listed) == {"token_id", "name", "role", "created_at", "expires_at", "last_used_at"}
    assert listed["last_used_at"] is None and listed["expires_at"] > listed["created_at"]
    assert (await http.post("/api/v1/tokens", {"name": "ci", "role": READ})).status == 409
    for bad in (
        {"name": "ci2"},
        {"name": "", "role": READ},
        {"name": "a:b", "role": READ},
        {"name": "x", "role": "root"},
    ):
        assert (await http.post("/api/v1/tokens", bad)).status == 422, bad
    session = await http.call("GET", "/api/v1/session", **as_bearer(token))
    assert session.data == {"role": SUBMIT, "name": "token:ci", "how": "token"}
    assert (await http.call("GET", "/api/v1/tokens")).data["tokens"][0]["last_used_at"]
    cookie = await cookie_of(http, token)
    assert (await http.get("/api/v1/session", Cookie=cookie)).data["how"] == "cookie"

    assert (await http.call("DELETE", f"/api/v1/tokens/{token_id}")).data["status"] == "revoked"
    assert (await http.call("DELETE", f"/api/v1/tokens/{token_id}")).status == 404
    for method, path in (("GET", "/api/v1/session"), ("GET", "/ready"), ("POST", "/api/v1/tasks")):
        answer = await http.call(method, path, **as_bearer(token))
        assert (answer.status, answer.code) == (401, "unauthorized"), path
    assert (await http.get("/api/v1/session", Cookie=cookie)).data["how"] == "loopback"
    rows = (await http.call("GET", "/api/v1/audit")).data["audit"]
    assert [row["action"] for row in rows] == ["token.revoke", "session.open", "token.create"]
    assert (rows[2]["request_id"], rows[2]["role"], rows[2]["subject"]) == ("abc-1", ADMIN, token_id)


@pytest.mark.parametrize("by", ["token", "cookie"])
@pytest_twisted.ensureDeferred
async def test_revocation_ends_open_streams_at_once(http: Http, by: str) -> None:
    made = (await http.post("/api/v1/tokens", {"name": "tv", "role": READ})).data
    shown = f"Authorization: Bearer {made['token']}"
    if by == "cookie":
        shown = f"Cookie: {await cookie_of(http, made['token'])}"
    wire, mine = await http.stream("/stream/events", shown), await http.stream("/stream/events")
    assert (await http.call("DELETE", f"/api/v1/tokens/{made['token_id']}")).status == 200
    await wire.end()
    assert not mine.closed.called, "others go on"
    await mine.leave()


@pytest_twisted.ensureDeferred
async def test_what_is_over_ends(node: Any, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await token_of(http, READ, ttl_s=3600)
    cookie = await cookie_of(http, token)
    access, real = node.rooms.access, node.rooms.access.moment
    wire = await http.stream("/stream/events", f"Authorization: Bearer {token}")
    monkeypatch.setattr(access, "moment", lambda: _later(real(), 3601))
    assert (await http.call("GET", "/ready", **as_bearer(token))).status == 401
    await wire.end()  # within the second in which it is looked at
    assert (await http.get("/api/v1/session", Cookie=cookie)).data["how"] == "loopback"
    assert (await http.call("GET", "/api/v1/tokens")).data["tokens"] == []
    await token_of(http, READ)  # its name is free again
    cookie = await cookie_of(http, http.token)
    monkeypatch.setattr(access, "moment", lambda: _later(real(), 3602 + SESSION_S))
    assert (await http.get("/api/v1/session", Cookie=cookie)).data["how"] == "loopback"


def _later(moment: Any, seconds: float) -> Any:
    return type(moment)(moment.mono_s + seconds, moment.wall_s + seconds)


@pytest_twisted.ensureDeferred
async def test_tokens_and_sessions_survive_a_restart_by_their_hashes(make_node: Any) -> None:
    node = make_node()
    http = http_of(node)
    token = await token_of(http, OPERATOR)
    cookie = await cookie_of(http, token)
    code = node.rooms.access.new_code()
    await http.call("GET", "/ready", **as_bearer(token))
    await node.stopService()
    path = node.rooms.database.path
    stored = b"".join(each.read_bytes() for each in path.parent.glob("cluster.db*"))
    for secret in (token, cookie.partition("=")[2], code, http.token):
        assert secret.encode() not in stored
    connection = sqlite3.connect(path)
    [(digest, used)] = connection.execute("SELECT digest, last_used_at FROM tokens").fetchall()
    connection.close()
    assert digest == digest_of(token) and used
    again = make_node(web_port=http.port)
    http = http_of(again)
    assert (await http.call("GET", "/api/v1/session", **as_bearer(token))).data["role"] == OPERATOR
    assert (await http.get("/api/v1/session", Cookie=cookie)).data["role"] == OPERATOR
    assert (await http.get(f"/login?code={code}")).status == 401, "links are for one life of the main"


# -- signing in


def check_cookie(answer: Response, port: int) -> str:
    name_and_value, *attributes = answer.headers["set-cookie"].split("; ")
    name, _, value = name_and_value.partition("=")
    assert name == f"retire-session-{port}"
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert not [each for each in attributes if each.startswith("Domain")]
    assert len(value) >= 43
    return name_and_value


@pytest_twisted.ensureDeferred
async def test_a_login_link_is_good_once(node: Any, http: Http) -> None:
    made = (await http.post("/api/v1/login-links", {})).data
    found = re.fullmatch(r"http://127\.0\.0\.1:\d+(/login\?code=[\w-]{32})", made["link"])
    assert found is not None
    assert (await http.call("HEAD", found[1], token=False)).status == 303, "a preview does not use it up"
    answer = await http.get(found[1])
    assert (answer.status, answer.headers["location"]) == (303, "/")
    check_every_answer(answer)
    cookie = check_cookie(answer, http.port)
    assert (await http.get("/api/v1/session", Cookie=cookie)).data == {"role": ADMIN, "name": "admin", "how": "cookie"}
    again = await http.get(found[1])
    assert (again.status, again.code) == (401, "unauthorized") and "set-cookie" not in again.headers
    assert (await http.get("/login?code=nonsense")).status == 401
    await node.rooms.turns.committed()
    rows = (await http.call("GET", "/api/v1/audit")).data["audit"]
    assert [(row["actor"], row["action"]) for row in rows] == [
        ("peer:127.0.0.1", "login.refused"),
        ("peer:127.0.0.1", "login.refused"),
        ("admin", "session.open"),
        ("admin", "login.link"),
    ]
    own = f"http://127.0.0.1:{http.port}"
    out = await http.call("POST", "/logout", {}, token=False, Cookie=cookie, Origin=own)
    assert out.status == 200 and "Max-Age=0" in out.headers["set-cookie"]
    assert (await http.get("/api/v1/session", Cookie=cookie)).data["how"] == "loopback"


@pytest_twisted.ensureDeferred
async def test_a_cookie_alone_changes_nothing_from_another_page(http: Http) -> None:
    cookie = await cookie_of(http, http.token)
    own = f"http://127.0.0.1:{http.port}"

    async def submit(**headers: str) -> int:
        return (await http.call("POST", "/api/v1/tasks", ECHO, token=False, Cookie=cookie, **headers)).status

    assert await submit() == 403, "no browser sends a change without saying where it comes from"
    assert await submit(Origin="http://evil.example") == 403
    assert await submit(Origin="null") == 403
    assert await submit(Origin=own, Sec_Fetch_Site="cross-site") == 403
    assert await submit(Origin=own, Sec_Fetch_Site="same-site") == 403
    assert await submit(Sec_Fetch_Site="none") == 403
    assert await submit(Origin=own) == 201
    assert await submit(Sec_Fetch_Site="same-origin") == 201
    for media_type in ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"):
        answer = await http.call(
            "POST", "/api/v1/tasks", body=b"{}", token=False, Cookie=cookie, Origin=own, Content_Type=media_type
        )
        assert answer.status == 415, media_type
    answer = await http.call(
        "POST", "/login", body=b"token=x", token=False, Content_Type="application/x-www-form-urlencoded"
    )
    assert answer.status == 415


@pytest_twisted.ensureDeferred
async def test_whoever_fails_too_often_has_to_wait(node: Any, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    for attempt in range(PER_ADDRESS):
        if attempt % 2:
            answer = await http.get("/login?code=wrong")
        else:
            answer = await http.call("POST", "/login", {"token": "wrong"}, token=False)
        assert answer.status == 401
    for token in ("wrong", http.token):
        answer = await http.call("POST", "/login", {"token": token}, token=False)
        assert (answer.status, answer.code) == (429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    real = node.rooms.access.moment
    monkeypatch.setattr(node.rooms.access, "moment", lambda: _later(real(), 61))
    assert (await http.call("POST", "/login", {"token": http.token}, token=False)).status == 200


@pytest_twisted.ensureDeferred
async def test_what_signing_in_takes(http: Http) -> None:
    for body in ({}, {"token": "a", "code": "b"}, {"token": 5}, {"name": "x"}):
        assert (await http.call("POST", "/login", body, token=False)).status == 422, body
    assert (await http.get("/login")).headers["location"] == "/"
    preflight = {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST"}
    answer = await http.call("OPTIONS", "/api/v1/tasks", token=False, **preflight)
    assert answer.status == 405
    check_every_answer(answer)


def test_cookies_over_tls_are_bound_to_the_host() -> None:
    from twisted.web.http_headers import Headers

    assert cookie_name(True, 5000) == "__Host-retire-session-5000"
    proxied = Headers({"X-Forwarded-Proto": ["https"]})
    assert is_secure(Headers(), Peer("10.0.0.1", secure=True))
    assert is_secure(proxied, Peer("127.0.0.1"))
    assert not is_secure(proxied, Peer("10.0.0.1"))
    given = Headers({"Cookie": ["a=1; retire-session-5=x; b=retire-session-6=y"]})
    assert cookie_in(given, "retire-session-5") == "x"
    assert cookie_in(given, "retire-session-6") is None
    assert cookie_in(Headers({"Cookie": ["s=1; s=2"]}), "s") is None


@pytest_twisted.ensureDeferred
async def test_what_a_stranger_gets(make_node: Any) -> None:
    """From another machine: the page to sign in with, which says nothing, and nothing else."""
    http = http_of(make_node())
    forwarded = {"token": False, "X_Forwarded_For": "203.0.113.7"}
    for route in ROUTES:
        answer = await http.call(route.method, address(route.path), **forwarded)
        if route.role == PUBLIC:
            assert answer.status in (200, 303, 404, 422), (route.path, answer)
        else:
            assert (answer.status, answer.code) == (401, "unauthorized"), (route.method, route.path)
        check_every_answer(answer)
    for path in ("/nothing", "/api/v1/nothing", "/static"):
        assert (await http.call("GET", path, **forwarded)).status == 401, "not even what there is"


@pytest_twisted.ensureDeferred
async def test_secrets_are_in_no_log_and_no_listing(make_node: Any) -> None:
    """Tokens, cookies and codes, good and wrong, over every way in; then what was logged or can be read is searched."""
    from twisted.logger import formatEvent, globalLogPublisher

    logged: list[str] = []

    def note(event: Any) -> None:
        logged.append(f"{formatEvent(event)} {event!r}")

    globalLogPublisher.addObserver(note)
    try:
        node = make_node()
        http = http_of(node)
        token = await token_of(http, ADMIN)
        cookie = await cookie_of(http, token)
        code = (await http.post("/api/v1/login-links", {})).data["link"].partition("code=")[2]
        wrong = "planted-wrong-secret"
        assert (await http.get(f"/login?code={code}")).status == 303
        assert (await http.get(f"/login?code={wrong}")).status == 401
        assert (await http.call("GET", "/ready", **as_bearer(wrong))).status == 401
        assert (await http.call("POST", "/login", {"token": wrong}, token=False)).status == 401
        secrets = [token, cookie.partition("=")[2], code, wrong, http.token]
        read = []
        for route in ROUTES:
            if route.method == "GET" and not route.path.startswith(("/stream/", "/login")):
                read.append((await http.call("GET", address(route.path))).text)
        await node.rooms.turns.committed()
        for secret in secrets:
            assert not [each for each in logged if secret in each], "in the log"
            assert not [each for each in read if secret in each], "in an answer"
    finally:
        globalLogPublisher.removeObserver(note)


@pytest_twisted.ensureDeferred
async def test_the_command_line_makes_lists_and_ends_tokens(node: Any) -> None:
    import io

    from twisted.internet import reactor

    from retirecluster.client.cli import parse
    from retirecluster.client.console import Console
    from retirecluster.client.context import Context

    folder = str(node.rooms.database.path.parent)
    environ = {"RETIRE_CLUSTER_SERVER": f"127.0.0.1:{node.web_port}", "RETIRE_CLUSTER_DATA_DIR": folder}

    async def typed(*words: str) -> tuple[int, str]:
        out = io.StringIO()
        args = parse(words)
        assert args is not None
        code = await args.run(Context(reactor, Console(out, io.StringIO(), 200), environ), args)
        return code, out.getvalue()

    code, out = await typed("tokens", "create", "ci", "--role", "operator", "--ttl", "2h")
    token = out.splitlines()[0]
    assert code == 0 and node.rooms.access.by_token(token).role == OPERATOR
    code, out = await typed("tokens")
    assert "ci" in out and "operator" in out and token not in out
    code, out = await typed("tokens", "revoke", "ci")
    assert code == 0 and out.startswith("ci (tok-") and "is revoked" in out
    assert node.rooms.access.by_token(token) is None
    code, out = await typed("audit", "tail", "--limit", "2")
    assert [line.split()[3] for line in out.splitlines()[-2:]] == ["token.create", "token.revoke"]
    code, out = await typed("audit", "--action", "token.create")
    assert code == 0 and "token.create" in out and "token.revoke" not in out
    code, out = await typed("audit", "verify")
    assert code == 0 and out.startswith("2 rows are as they were written; last row 2, hash ")
    connection = sqlite3.connect(node.rooms.database.path)
    connection.execute("DROP TRIGGER audit_rows_stay_as_they_are")
    connection.execute("UPDATE audit SET actor = 'nobody' WHERE audit_no = 2")
    connection.commit()
    connection.close()
    code, out = await typed("audit", "verify")
    assert code == 1 and out.startswith("row 2 is not what was written there")
    code, out = await typed("login-link")
    assert code == 0 and "/login?code=" in out


@pytest_twisted.ensureDeferred
async def test_the_cookie_over_tls(make_node: Any) -> None:
    from twisted.internet.threads import deferToThread

    from retirecluster.client import pinning

    node = make_node(tls="on")
    server, ca = f"https://127.0.0.1:{node.web_port}", node.rooms.admission.authority.pem

    def signed_in() -> tuple[int, dict[str, str]]:
        connection = pinning.connection_to(server, ca)
        connection.request("GET", f"/login?code={node.rooms.access.new_code()}", headers={})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}

    status, headers = await deferToThread(signed_in)
    assert (status, headers["location"]) == (303, "/")
    name_and_value, *attributes = headers["set-cookie"].split("; ")
    name, _, cookie = name_and_value.partition("=")
    assert name == f"__Host-retire-session-{node.web_port}"
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    assert not [each for each in attributes if each.startswith("Domain")]

    async def who(cookie_header: str) -> str:
        asked = await deferToThread(
            pinning.ask, server, ca, "GET", "/api/v1/session", headers={"Cookie": cookie_header}
        )
        how: str = asked.data["how"]
        return how

    assert await who(name_and_value) == "cookie"
    assert await who(f"retire-session-{node.web_port}={cookie}") == "loopback", "one that came in the clear is none"
