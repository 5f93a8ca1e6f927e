"""Who has which token, which session, which login link: what the web asks for each request.

All of it is in memory, by SHA-256. A token is 256 random bits, so nothing slower is needed to keep it from whoever
reads the database; and that a digest is looked up, and not compared, tells nothing about the token by its timing.
What changes is on disk before it is answered. Only when a token was used last is written now and then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from attrs import define, evolve, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.access import ADMIN, COOKIE, TOKEN, Caller
from retirecluster.domain.audit import Actor, AuditEntry
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.login_attempts import LoginAttempts
from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.main.tokens import AdminToken
from retirecluster.main.turns import Turns
from retirecluster.store import access as rows
from retirecluster.store.database import Database

log = Logger()
MAX_TOKENS, MAX_SESSIONS, MAX_LINKS = 1000, 1000, 20
SESSION_S = 30 * 86_400.0
LINK_S = 900.0
LOOK_S = 1.0
NOTE_USE_S = 300.0


@frozen
class Link:
    """A login link: good once, until `until_mono_s`, for a session of the token that asked for it."""

    token_digest: str
    until_mono_s: float


@frozen
class Opened:
    """A session that has begun: what its cookie holds, and who it is."""

    cookie: str
    caller: Caller


def digest_of(text: str) -> str:
    """What is kept of a token, a cookie or a code."""
    return sha256(text.encode("utf-8", "replace")).hexdigest()


def login_link(origin: str, code: str, ca_hash: str | None) -> str:
    """The address that signs in, once. The hash is for `retire-cluster login`; browsers keep it to themselves."""
    return f"{origin}/login?{urlencode({'code': code})}" + (f"#ca={ca_hash}" if ca_hash else "")


@define(eq=False)
class Access:
    """The tokens of this main, beside the admin token, and its sessions.

    `ended` is called whenever a token or a session has ended before its callers have: their streams have to go.
    """

    admin: AdminToken
    database: Database
    scheduler: Scheduler
    turns: Turns
    clock: IReactorTime
    moment: Callable[[], Moment]
    ended: Callable[[], None] = lambda: None
    _tokens: dict[str, rows.TokenRow] = field(factory=dict, init=False)
    _sessions: dict[str, rows.SessionRow] = field(factory=dict, init=False)
    _links: dict[str, Link] = field(factory=dict, init=False)
    _used: dict[str, float] = field(factory=dict, init=False)
    _attempts: LoginAttempts = field(factory=LoginAttempts, init=False)
    _loop: LoopingCall | None = field(default=None, init=False)
    _noted_mono_s: float = field(default=0.0, init=False)

    def restore(self, tokens: list[rows.TokenRow], sessions: list[rows.SessionRow]) -> None:
        """Take in what the store holds, before anything is served."""
        self._tokens = {each.digest: each for each in tokens}
        self._sessions = {each.digest: each for each in sessions}

    def start(self) -> None:
        """Watch for the end of tokens and sessions, and note now and then which were used."""
        self._noted_mono_s = self.moment().mono_s
        self._loop = LoopingCall(self._look)
        self._loop.clock = self.clock
        self._loop.start(LOOK_S, now=False)

    async def stop(self) -> None:
        """Note what was used last, and watch no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()
            await self._note_use([])

    # -- who is who

    def by_token(self, token: str) -> Caller | None:
        """Who has this token; None for nobody, and once it was revoked or is over."""
        digest = digest_of(token)
        name_and_role = self._good(digest)
        if name_and_role is None:
            return None
        self._used[digest] = self.moment().wall_s
        return Caller(name_and_role[1], TOKEN, name_and_role[0], key=digest)

    def by_cookie(self, cookie: str) -> Caller | None:
        """Whose session this cookie is; None for nobody's, and once it is over or its token has ended."""
        digest = digest_of(cookie)
        session = self._sessions.get(digest)
        if session is None or session.expires_at <= self.moment().wall_s:
            return None
        name_and_role = self._good(session.token_digest)
        if name_and_role is None:
            return None
        self._used[session.token_digest] = self.moment().wall_s
        return Caller(name_and_role[1], COOKIE, name_and_role[0], key=digest)

    def is_good(self, caller: Caller) -> bool:
        """Whether what a caller has shown is still good; True for one who has shown nothing."""
        if caller.how == COOKIE:
            session = self._sessions.get(caller.key)
            now = self.moment().wall_s
            return session is not None and session.expires_at > now and self._good(session.token_digest) is not None
        return caller.how != TOKEN or self._good(caller.key) is not None

    def _good(self, digest: str) -> tuple[str, str] | None:
        """(name, role) of the token with a digest."""
        if digest == self.admin.digest:
            return "admin", ADMIN
        row = self._tokens.get(digest)
        if row is None or (row.expires_at is not None and row.expires_at <= self.moment().wall_s):
            return None
        return f"token:{row.name}", row.role

    # -- tokens

    def tokens(self) -> list[rows.TokenRow]:
        """Those that people have made, the oldest first, with when they were used last."""
        return [evolve(each, last_used_at=self._used.get(each.digest, each.last_used_at)) for each in self._live()]

    def _live(self) -> list[rows.TokenRow]:
        return [each for each in self._tokens.values() if self._good(each.digest) is not None]

    async def create(self, name: str, role: str, ttl_s: float | None, by: Actor) -> tuple[rows.TokenRow, str]:
        """A new token, and its text, which nobody is told again. Raises ClusterError conflict."""
        await self._drop_past()
        if any(each.name == name for each in self._tokens.values()):
            raise ClusterError("conflict", f"there is a token {name} already: take another name, or revoke it first")
        if len(self._tokens) >= MAX_TOKENS:
            raise ClusterError("conflict", f"there are {MAX_TOKENS} tokens already: revoke one first")
        self.turns.check_free()
        token, now = secrets.token_urlsafe(32), self.moment()
        until_at = None if ttl_s is None else now.wall_s + ttl_s
        row = rows.TokenRow("tok-" + secrets.token_hex(6), digest_of(token), name, role, now.wall_s, until_at)
        self._tokens[row.digest] = row  # so that no other takes the name meanwhile
        told = AuditEntry.by(by, now.wall_s, "token.create", row.token_id, {"name": name, "role": role, "ttl_s": ttl_s})
        try:
            await self.database.change(rows.add_token_txn, row, told)
        except BaseException:
            del self._tokens[row.digest]
            raise
        return row, token

    async def revoke(self, token_id: str, by: Actor) -> rows.TokenRow:
        """End a token, its sessions and its streams, at once. Raises ClusterError not_found."""
        found = [each for each in self._live() if each.token_id == token_id]
        if not found:
            raise ClusterError("not_found", f"there is no token {token_id}; GET /api/v1/tokens lists them")
        row = found[0]
        self.turns.check_free()
        detail = {"name": row.name, "role": row.role}
        told = AuditEntry.by(by, self.moment().wall_s, "token.revoke", token_id, detail)
        await self.database.change(rows.remove_token_txn, row, told)
        self._forget([row.digest])
        return row

    def _forget(self, digests: list[str]) -> None:
        """Tokens that are no more, on disk either."""
        for digest in digests:
            self._tokens.pop(digest, None)
            self._used.pop(digest, None)
        for session in [each for each in self._sessions.values() if each.token_digest in digests]:
            del self._sessions[session.digest]
        for code in [code for code, link in self._links.items() if link.token_digest in digests]:
            del self._links[code]
        self.ended()

    # -- sessions

    def new_code(self, token_digest: str | None = None) -> str:
        """A code for a login link, good once; for a session of the admin token unless told otherwise."""
        now_mono_s = self.moment().mono_s
        self._links = {code: link for code, link in self._links.items() if link.until_mono_s > now_mono_s}
        while len(self._links) >= MAX_LINKS:
            del self._links[next(iter(self._links))]
        code = secrets.token_urlsafe(24)
        self._links[digest_of(code)] = Link(token_digest or self.admin.digest, now_mono_s + LINK_S)
        return code

    async def log_in_by_code(self, code: str, who: Actor) -> Opened:
        """A session for the code of a login link. `who` says from where. Raises unauthorized, rate_limited."""
        self._check_attempts(who)
        link = self._links.pop(digest_of(code), None)
        if link is None or link.until_mono_s <= self.moment().mono_s or self._good(link.token_digest) is None:
            raise self._failed(who, "this login link was used already, or is too old: ask for another one")
        return await self._open(link.token_digest, "link", who)

    async def log_in_by_token(self, token: str, who: Actor) -> Opened:
        """A session for a token. `who` says from where. Raises unauthorized, rate_limited."""
        self._check_attempts(who)
        if self._good(digest_of(token)) is None:
            raise self._failed(who, "the token is not, or no longer, one of this main")
        return await self._open(digest_of(token), "token", who)

    def _check_attempts(self, who: Actor) -> None:
        wait_s = self._attempts.wait_s(who.address, self.moment().mono_s)
        if wait_s:
            what = f"too many attempts to log in have failed: try again in {wait_s} s"
            raise ClusterError("rate_limited", what, retry_after_s=wait_s)

    def _failed(self, who: Actor, what: str) -> ClusterError:
        self._attempts.failed(who.address)
        actor = f"peer:{who.address}"
        self.scheduler.ledger.audit_refusal(self.moment(), actor, "login.refused", "", request_id=who.request_id)
        self.turns.ask()
        return ClusterError("unauthorized", what)

    async def _open(self, token_digest: str, how: str, who: Actor) -> Opened:
        self.turns.check_free()
        cookie, now = secrets.token_urlsafe(32), self.moment()
        row = rows.SessionRow(digest_of(cookie), token_digest, now.wall_s, now.wall_s + SESSION_S)
        over = self._sessions_over()
        self._sessions[row.digest] = row
        found = self.by_cookie(cookie)
        assert found is not None
        actor = evolve(who, name=found.name, role=found.role)
        try:
            told = AuditEntry.by(actor, now.wall_s, "session.open", "", {"by": how})
            await self.database.change(rows.add_session_txn, row, over, told)
        except BaseException:
            self._sessions.pop(row.digest, None)
            raise
        for each in over:
            self._sessions.pop(each, None)
        return Opened(cookie, found)

    def _sessions_over(self) -> list[str]:
        """Those that are over, and the oldest where there are too many."""
        now_s = self.moment().wall_s
        over = [each.digest for each in self._sessions.values() if each.expires_at <= now_s]
        left = sorted((each for each in self._sessions.values() if each.expires_at > now_s), key=_created_at)
        return over + [each.digest for each in left[: max(0, len(left) - MAX_SESSIONS + 1)]]

    async def log_out(self, caller: Caller, by: Actor) -> None:
        """End a session; whoever has none has nothing to end."""
        if caller.how == COOKIE and caller.key in self._sessions:
            self.turns.check_free()
            told = AuditEntry.by(by, self.moment().wall_s, "session.close", "", {})
            await self.database.change(rows.remove_session_txn, caller.key, told)
            self._sessions.pop(caller.key, None)
            self.ended()

    # -- now and then

    def _look(self) -> Any:
        """End what is over. A LoopingCall whose function fails stops for good, so that nothing here may raise."""
        now = self.moment()
        over = any(each.expires_at is not None and each.expires_at <= now.wall_s for each in self._tokens.values())
        if over or any(each.expires_at <= now.wall_s for each in self._sessions.values()):
            self.ended()
        if now.mono_s - self._noted_mono_s >= NOTE_USE_S or over:
            return Deferred.fromCoroutine(self._drop_past()).addErrback(_report)
        return None

    async def _drop_past(self) -> None:
        """Remove tokens that are over, and note when the others were used."""
        now = self.moment()
        over = [
            each.digest
            for each in self._tokens.values()
            if each.expires_at is not None and each.expires_at <= now.wall_s
        ]
        if over or self._used:
            await self._note_use(over)
        self._noted_mono_s = now.mono_s

    async def _note_use(self, over: list[str]) -> None:
        used = [(at, digest) for digest, at in self._used.items() if digest in self._tokens]
        if not used and not over:
            return
        await self.database.change(rows.note_use_txn, used, over)
        for at, digest in used:
            if digest in self._tokens:
                self._tokens[digest] = evolve(self._tokens[digest], last_used_at=at)
        self._used.clear()
        if over:
            self._forget(over)


def _created_at(row: rows.SessionRow) -> float:
    return row.created_at


def _report(failure: Failure) -> None:
    log.failure("the use of tokens could not be noted; it is tried again", failure)
