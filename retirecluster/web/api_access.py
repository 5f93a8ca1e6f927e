"""Handlers of tokens, sessions, login links and the check of the audit trail."""

from __future__ import annotations

from typing import Any

from retirecluster.domain.access import ADMIN, ROLES
from retirecluster.domain.errors import ClusterError, invalid
from retirecluster.domain.fields import Field, Number, Problem, Record, Text
from retirecluster.domain.units import format_instant
from retirecluster.main.access import LINK_S, SESSION_S, Opened, login_link
from retirecluster.store.access import TokenRow
from retirecluster.web.answers import Answer, Header, success
from retirecluster.web.calls import Call, Web
from retirecluster.web.guard import cookie_name, is_secure

TOKEN_NAME = Text(
    64, 1, pattern=r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", pattern_doc="letters, digits and . _ @ -, no other first"
)
TOKEN_BODY = Record(
    (
        Field("name", TOKEN_NAME, "whose it is, or what for; it stands in the audit trail", required=True),
        Field("role", Text(choices=tuple(ROLES)), "what it may", required=True),
        Field("ttl_s", Number(1, 10 * 366 * 86_400), "seconds that it is good for; else until revoked", nullable=True),
    ),
    closed=True,
)
LOGIN_BODY = Record(
    (
        Field("token", Text(200, 1), "a token of this main", nullable=True),
        Field("code", Text(200, 1), "or the code of a login link", nullable=True),
    ),
    closed=True,
)
CODE_QUERY = Record((Field("code", Text(200, 1), "the code of a login link"),), closed=True)
PEM = "application/x-pem-file"
NO_STORE: Header = (b"Cache-Control", b"no-store")


def token_document(row: TokenRow) -> dict[str, Any]:
    """A token as the doors show it: never its text, which the main does not know."""
    return {
        "token_id": row.token_id,
        "name": row.name,
        "role": row.role,
        "created_at": format_instant(row.created_at),
        "expires_at": format_instant(row.expires_at),
        "last_used_at": format_instant(row.last_used_at),
    }


async def tokens(web: Web, call: Call) -> Answer:
    """Every token that is good, but the admin token of the data folder."""
    return success({"tokens": [token_document(each) for each in web.access.tokens()]})


async def create_token(web: Web, call: Call) -> Answer:
    """Make a token; this answer is the only place where it is shown."""
    body = call.body
    row, token = await web.access.create(body["name"], body["role"], body.get("ttl_s"), call.actor)
    return success(token_document(row) | {"token": token}, 201).with_headers(NO_STORE)


async def revoke_token(web: Web, call: Call) -> Answer:
    """End a token, its sessions and its streams, at once."""
    row = await web.access.revoke(call.path["token_id"], call.actor)
    return success({"token_id": row.token_id, "name": row.name, "status": "revoked"})


async def create_link(web: Web, call: Call) -> Answer:
    """A login link for a browser: good once, for a session that may what the caller's token may."""
    code = web.access.new_code()
    web.cluster.audit(call.actor, "login.link", "")
    await web.cluster.desk.turns.answered()
    host = call.header(b"Host")
    scheme = "https" if is_secure(call.request.requestHeaders, call.request.peer()) else "http"
    ca_hash = None if web.cluster.admission is None else web.cluster.admission.authority.hash
    link = login_link(f"{scheme}://{host}", code, ca_hash)
    until = format_instant(web.cluster.moment().wall_s + LINK_S)
    return success({"link": link, "expires_at": until}, 201).with_headers(NO_STORE)


async def authority(web: Web, call: Call) -> Answer:
    """The certificate of this main's authority: nothing secret, and of use only to who knows its hash."""
    if web.cluster.admission is None:
        raise ClusterError("not_found", "this main has no authority: it does not speak TLS")
    return Answer(200, web.cluster.admission.authority.pem.encode("ascii"), PEM)


async def session(web: Web, call: Call) -> Answer:
    """Who the caller is, and how that is known."""
    caller = call.request.caller
    return success({"role": caller.role, "name": caller.name, "how": caller.how})


async def log_in(web: Web, call: Call) -> Answer:
    """Begin a session with a token, or with the code of a login link; the answer sets its cookie."""
    token, code = call.body.get("token"), call.body.get("code")
    if (token is None) == (code is None):
        raise invalid([Problem("token", "give either token or code")])
    who = call.actor
    opened = await (web.access.log_in_by_code(code, who) if token is None else web.access.log_in_by_token(token, who))
    return success({"role": opened.caller.role, "name": opened.caller.name, "how": opened.caller.how}).with_headers(
        NO_STORE, _set_cookie(call, opened)
    )


async def follow_link(web: Web, call: Call) -> Answer:
    """Begin a session by a login link, and go to the dashboard."""
    code = call.query.get("code")
    home = Answer(303, b"", "text/plain; charset=utf-8", ((b"Location", b"/"), NO_STORE))
    if code is None or call.request.method != b"GET":
        return home  # a HEAD, as programs send that show what is behind a link, does not use it up
    return home.with_headers(_set_cookie(call, await web.access.log_in_by_code(code, call.actor)))


async def log_out(web: Web, call: Call) -> Answer:
    """End the caller's session."""
    await web.access.log_out(call.request.caller, call.actor)
    return success({"status": "signed out"}).with_headers(NO_STORE, _cookie(call, "", 0))


def _set_cookie(call: Call, opened: Opened) -> Header:
    return _cookie(call, opened.cookie, int(SESSION_S))


def _cookie(call: Call, value: str, max_age_s: int) -> Header:
    peer = call.request.peer()
    secure = is_secure(call.request.requestHeaders, peer)
    text = f"{cookie_name(secure, peer.port)}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict"
    return b"Set-Cookie", (text + "; Secure" * secure).encode("ascii")


async def verify_audit(web: Web, call: Call) -> Answer:
    """Whether the audit trail is as it was written: the first row that is not, and the ends of the chain."""
    chain, bad = await web.cluster.audit_state()
    return success(
        {
            "sound": bad is None,
            "first_bad": None if bad is None else {"audit_no": bad.audit_no, "why": bad.why},
            "first_no": chain.first_no + 1,
            "last_no": chain.last_no,
            "last_hash": chain.last_hash,
        }
    )


async def check_owner(web: Web, call: Call, task_id: str) -> None:
    """Whoever may only submit acts on its own tasks alone. Raises ClusterError: forbidden, not_found."""
    caller = call.request.caller
    if caller.may(ADMIN) or caller.may("operator"):
        return
    owner = (await web.cluster.task(task_id)).get("submitted_by") or ""
    if owner.partition("/")[0] != caller.name:
        what = f"{task_id} was submitted by {owner or 'somebody else'}; acting on it needs the role operator"
        raise ClusterError("forbidden", what)
