"""What commands about tokens, login links and the audit trail show."""

from __future__ import annotations

from collections.abc import Sequence

from retirecluster.domain.errors import ClusterError
from retirecluster.render.columns import Column, Document, field
from retirecluster.render.views import Rows, Said

TOKEN_COLUMNS = (
    Column("TOKEN", field("token_id")),
    Column("NAME", field("name"), flexible=True),
    Column("ROLE", field("role")),
    Column("CREATED", field("created_at")),
    Column("UNTIL", field("expires_at"), lambda value: value or "revoked"),
    Column("USED", field("last_used_at"), lambda value: value or "never"),
)


def tokens(listed: Sequence[Document]) -> Rows:
    """`tokens list`."""
    return Rows(TOKEN_COLUMNS, listed, "No tokens. Make one: retire-cluster tokens create NAME --role submit")


def new_token(made: Document) -> Said:
    """`tokens create`: the token on a line of its own, which nothing shows again."""
    until = f"until {made['expires_at']}" if made.get("expires_at") else "until it is revoked"
    return Said([made["token"], f"{made['name']} ({made['token_id']}) may {made['role']}, {until}; keep it now"], made)


def token_named(listed: Sequence[Document], word: str) -> str:
    """The id of the token with that id or name. Raises ClusterError not_found."""
    for each in listed:
        if word in (each["token_id"], each["name"]):
            return str(each["token_id"])
    raise ClusterError("not_found", f"no token is called {word}; `tokens list` shows them")


def token_revoked(done: Document) -> Said:
    """`tokens revoke`."""
    return Said([f"{done['name']} ({done['token_id']}) is revoked"], done)


def login_link(made: Document) -> Said:
    """`login-link`."""
    return Said([made["link"], f"for one browser, until {made['expires_at']}"], made)


def audit_state(found: Document) -> Said:
    """`audit verify`."""
    last = f"last row {found['last_no']}, hash {found['last_hash'] or '(none)'}"
    if found["sound"]:
        rows = found["last_no"] - found["first_no"] + 1
        return Said([f"{rows} rows are as they were written; {last}"], found)
    bad = found["first_bad"]
    return Said([f"row {bad['audit_no']} {bad['why']}; {last}"], found)
