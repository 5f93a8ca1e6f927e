"""`retire-cluster login`, `logout` and `profiles`: which main this user works with, kept in a file of the user's."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import sys
from argparse import Namespace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from attrs import frozen

from retirecluster.client.console import Console
from retirecluster.client.context import LocalHandlers
from retirecluster.client.formats import show
from retirecluster.client.profiles import Profile, Profiles
from retirecluster.client.settings import DEFAULT_SERVER, server_url
from retirecluster.domain.errors import ClusterError
from retirecluster.render.columns import Column, field
from retirecluster.render.views import Rows

COLUMNS = (
    Column("PROFILE", field("name")),
    Column("SERVER", field("server"), flexible=True),
    Column("CURRENT", field("current"), lambda value: "yes" if value else ""),
    Column("PINNED", field("pinned"), lambda value: "yes" if value else ""),
)


@frozen
class Target:
    """Where to sign in: the main, the code of a login link, and the hash of its authority; empty: not said."""

    server: str
    code: str = ""
    ca_hash: str = ""


def read_target(text: str) -> Target:
    """What a login link, or the address of a main, says."""
    parts = urlsplit(text)
    if parts.scheme in ("http", "https") and parts.path == "/login":
        code = parse_qs(parts.query).get("code", [""])[0]
        return Target(f"{parts.scheme}://{parts.netloc}", code, parse_qs(parts.fragment).get("ca", [""])[0])
    return Target(server_url(text))


def login(console: Console, args: Namespace) -> int:
    """Sign in, and keep it as a profile, which is the current one from now on."""
    from retirecluster.client.pinning import ask, fetch_ca

    target = read_target(args.target or args.server or os.environ.get("RETIRE_CLUSTER_SERVER") or DEFAULT_SERVER)
    profiles = Profiles.load(os.environ)
    pinned = args.ca_hash or target.ca_hash
    if pinned and not target.server.startswith("https:"):
        raise ClusterError("bad_field", f"a hash of an authority is for https, and {target.server} is not")
    ca = fetch_ca(target.server, pinned) if pinned else ""
    profile = _by_code(target, ca) if target.code else Profile(target.server, _given_token(args), "", ca)
    found = ask(profile.server, ca, "GET", "/api/v1/session", headers=_bearer(profile)).data
    name = args.profile or (urlsplit(profile.server).hostname or "main")
    profiles.by_name[name], profiles.current = profile, name
    profiles.save()
    console.line(f"{name}: {profile.server}, as {found['name']} ({found['role']})")
    return 0


def _by_code(target: Target, ca: str) -> Profile:
    """A token of this computer's own, made by the session that a login link opens, and is good for once."""
    from retirecluster.client.pinning import ask

    try:
        session = ask(target.server, ca, "POST", "/login", {"code": target.code})
    except ClusterError as error:
        if error.code != "unauthorized" or "not trusted" in error.message:
            raise
        hint = "on the main, `retire-cluster login-link` makes another"
        raise ClusterError("unauthorized", f"the login link was used already, or is too old: {hint}") from None
    browser = {"Cookie": session.cookie, "Origin": target.server}
    host = "".join(each if each.isalnum() or each in "._-" else "-" for each in socket.gethostname())[:40]
    name = f"cli-{host}-{secrets.token_hex(3)}"
    made = ask(target.server, ca, "POST", "/api/v1/tokens", {"name": name, "role": session.data["role"]}, browser)
    ask(target.server, ca, "POST", "/logout", {}, browser)
    return Profile(target.server, made.data["token"], made.data["token_id"], ca)


def _bearer(profile: Profile) -> dict[str, str]:
    return {"Authorization": f"Bearer {profile.token}"}


def _given_token(args: Namespace) -> str:
    if args.token:
        return str(args.token).strip()
    if args.token_file:
        try:
            return Path(args.token_file).read_text("utf-8").strip()
        except OSError as error:
            raise ClusterError("bad_config", f"--token-file: {args.token_file}: {error.strerror}") from None
    if os.environ.get("RETIRE_CLUSTER_TOKEN"):
        return os.environ["RETIRE_CLUSTER_TOKEN"].strip()
    if not sys.stdin.isatty():
        raise ClusterError("bad_field", "login needs a login link, --token-file, or a terminal to ask for the token")
    return getpass.getpass("Token: ").strip()


def logout(console: Console, args: Namespace) -> int:
    """Forget a profile, and end the token that `login` made for it."""
    from retirecluster.client.pinning import ask

    profiles = Profiles.load(os.environ)
    name = args.profile or profiles.current
    profile = profiles.get(name)
    if profile.token_id:
        try:
            address = f"/api/v1/tokens/{profile.token_id}"
            ask(profile.server, profile.ca, "DELETE", address, headers=_bearer(profile))
        except ClusterError as error:
            console.note(f"the token could not be revoked, and stays good: {error.message}")
    _forget(profiles, name)
    console.line(f"{name} is forgotten")
    return 0


def list_profiles(console: Console, args: Namespace) -> int:
    """Every profile, without tokens."""
    profiles = Profiles.load(os.environ)
    rows = [
        {"name": name, "server": each.server, "current": name == profiles.current, "pinned": bool(each.ca)}
        for name, each in sorted(profiles.by_name.items())
    ]
    show(console, args.format, Rows(COLUMNS, rows, "No profiles. Make one: retire-cluster login SERVER"))
    return 0


def use_profile(console: Console, args: Namespace) -> int:
    """Make a profile the current one."""
    profiles = Profiles.load(os.environ)
    console.line(f"{args.name}: {profiles.get(args.name).server}")
    profiles.current = args.name
    profiles.save()
    return 0


def remove_profile(console: Console, args: Namespace) -> int:
    """Forget a profile; its token stays good."""
    profiles = Profiles.load(os.environ)
    profiles.get(args.name)
    _forget(profiles, args.name)
    console.line(f"{args.name} is forgotten")
    return 0


def _forget(profiles: Profiles, name: str) -> None:
    del profiles.by_name[name]
    if profiles.current == name:
        profiles.current = ""
    profiles.save()


LOCAL: LocalHandlers = {
    "login": login,
    "logout": logout,
    "profiles list": list_profiles,
    "profiles use": use_profile,
    "profiles remove": remove_profile,
}
