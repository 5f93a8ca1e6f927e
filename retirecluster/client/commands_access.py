"""`retire-cluster tokens`, `login-link`, `audit tail` and `audit verify`."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from retirecluster.client.context import Context, Handlers, with_api
from retirecluster.client.formats import show
from retirecluster.render import access, answers

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi


async def list_tokens(context: Context, args: Namespace, api: ClusterApi) -> int:
    show(context.console, args.format, access.tokens((await api.request("GET", "tokens"))["tokens"]))
    return 0


async def create_token(context: Context, args: Namespace, api: ClusterApi) -> int:
    body = json.dumps({"name": args.name, "role": args.role, "ttl_s": args.ttl}).encode()
    show(context.console, args.format, access.new_token(await api.request("POST", "tokens", body=body)))
    return 0


async def revoke_token(context: Context, args: Namespace, api: ClusterApi) -> int:
    token_id = access.token_named((await api.request("GET", "tokens"))["tokens"], args.revoked)
    show(context.console, args.format, access.token_revoked(await api.request("DELETE", f"tokens/{token_id}")))
    return 0


async def login_link(context: Context, args: Namespace, api: ClusterApi) -> int:
    show(context.console, args.format, access.login_link(await api.request("POST", "login-links", body=b"{}")))
    return 0


async def audit_tail(context: Context, args: Namespace, api: ClusterApi) -> int:
    found = await api.request("GET", "audit", params={"limit": str(args.limit)})
    show(context.console, args.format, answers.audit(found["audit"][::-1]))
    return 0


async def audit_verify(context: Context, args: Namespace) -> int:
    """Of the main, or with --file of a database that no main has to run for."""
    if args.file:
        return _verify_file(args.file)
    api = context.open_api(args)
    try:
        found = await api.request("GET", "audit/verify", timeout_s=120.0)
    finally:
        await api.close()
    show(context.console, args.format, access.audit_state(found))
    return 0 if found["sound"] else 1


def _verify_file(path: str) -> int:
    """By a program of its own, as this package knows the main by its API alone."""
    command = [sys.executable, "-m", "retirecluster.store", "audit-verify", str(Path(path).absolute())]
    return subprocess.run(command, check=False).returncode


HANDLERS: Handlers = {
    "tokens list": with_api(list_tokens),
    "tokens create": with_api(create_token),
    "tokens revoke": with_api(revoke_token),
    "login-link": with_api(login_link),
    "audit tail": with_api(audit_tail),
    "audit verify": audit_verify,
}
