"""Which main node, and which token: the command line over RETIRE_CLUSTER_* variables over what lies in place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from retirecluster.client.profiles import Profile, Profiles
from retirecluster.config import default_data_dir
from retirecluster.domain.errors import ClusterError

DEFAULT_SERVER = "http://127.0.0.1:5000"
DEFAULT_WEB_PORT = 5000
TOKEN_FILE = "admin.token"
CA_FILE = Path("tls") / "ca.crt"
_ABOVE_PROFILE = ("RETIRE_CLUSTER_SERVER", "RETIRE_CLUSTER_TOKEN", "RETIRE_CLUSTER_TOKEN_FILE")


@frozen
class Connection:
    """The base URL of the main's web port, a token, and for https the authority (PEM) that is trusted alone.

    Empty: none was found; for the authority, those that this computer trusts.
    """

    server: str
    token: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)


@frozen
class Given:
    """What the command line says; None for what it does not."""

    server: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    data_dir: str | None = None
    profile: str | None = None


def find_connection(given: Given, environ: Mapping[str, str]) -> Connection:
    """The server and the token to use. Raises ClusterError where something named cannot be read."""
    profile = _find_profile(given, environ)
    if given.profile is not None:  # on the command line it stands above the environment, too
        environ = {name: value for name, value in environ.items() if name not in _ABOVE_PROFILE}
    server = given.server or environ.get("RETIRE_CLUSTER_SERVER") or (profile.server if profile else DEFAULT_SERVER)
    server = server_url(server)
    if profile is not None and profile.server == server:  # what it knows is for its own main
        return Connection(server, _given_token(given, environ) or profile.token, profile.ca)
    return Connection(server, _find_token(given, environ, server), _local_ca(given, environ, server))


def _find_profile(given: Given, environ: Mapping[str, str]) -> Profile | None:
    """The profile that is named, else the current one, unless a main of this machine is meant."""
    name = given.profile or environ.get("RETIRE_CLUSTER_PROFILE")
    if name:
        return Profiles.load(environ).get(name)
    if given.data_dir or environ.get("RETIRE_CLUSTER_DATA_DIR"):
        return None
    profiles = Profiles.load(environ)
    return profiles.by_name.get(profiles.current)


def _local_ca(given: Given, environ: Mapping[str, str], server: str) -> str:
    """The authority of a main of this machine."""
    if not server.startswith("https:"):
        return ""
    named = given.data_dir or environ.get("RETIRE_CLUSTER_DATA_DIR")
    if not named and not is_loopback(server):
        return ""
    return _readable_text(Path(named or default_data_dir("main")) / CA_FILE)


def server_url(text: str) -> str:
    """The base URL in `host`, `host:port` or a URL: `nas` is http://nas:5000."""
    url = text.strip().rstrip("/")
    if "://" not in url:
        url = f"http://{url}"
        if _port(url, text) is None:
            url = f"{url}:{DEFAULT_WEB_PORT}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise _bad_server(text)
    _port(url, text)
    return url


def _port(url: str, text: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        raise _bad_server(text) from None


def _bad_server(text: str) -> ClusterError:
    return ClusterError(
        "bad_field", f"--server: {text!r} is not an address; write for example nas:5000 or http://127.0.0.1:5000"
    )


def _given_token(given: Given, environ: Mapping[str, str]) -> str:
    """The token that is said on the command line or in the environment; empty if none is."""
    if given.token is not None:
        return _checked(given.token, "--token")
    if given.token_file is not None:
        return _from_file(Path(given.token_file), "--token-file")
    if environ.get("RETIRE_CLUSTER_TOKEN"):
        return _checked(environ["RETIRE_CLUSTER_TOKEN"], "RETIRE_CLUSTER_TOKEN")
    if environ.get("RETIRE_CLUSTER_TOKEN_FILE"):
        return _from_file(Path(environ["RETIRE_CLUSTER_TOKEN_FILE"]), "RETIRE_CLUSTER_TOKEN_FILE")
    return ""


def _find_token(given: Given, environ: Mapping[str, str], server: str) -> str:
    if found := _given_token(given, environ):
        return found
    named = given.data_dir or environ.get("RETIRE_CLUSTER_DATA_DIR")
    if named:
        path = Path(named) / TOKEN_FILE
        return _from_file(path, "--data-dir") if path.exists() else ""
    # The default folder holds the token of the main on this machine: no other is ever shown it.
    path = Path(default_data_dir("main")) / TOKEN_FILE
    return _readable_text(path) if is_loopback(server) else ""


def _checked(token: str, origin: str) -> str:
    stripped = token.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise ClusterError("bad_field", f"{origin}: that is not a token; it is one word, as it stands in {TOKEN_FILE}")
    return stripped


def _from_file(path: Path, origin: str) -> str:
    try:
        return _checked(path.read_text("utf-8"), f"{origin}: {path}")
    except OSError as error:
        raise ClusterError("bad_config", f"{origin}: {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClusterError("bad_config", f"{origin}: {path} is not a text file") from None


def _readable_text(path: Path) -> str:
    """The token in a file that may be absent or somebody else's: then reads still work, and writes say what to do."""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def submitter_header(environ: Mapping[str, str]) -> dict[str, str]:
    """Who submits, by the user's name on this computer: warm tasks of different users share no process."""
    name = environ.get("USER") or environ.get("LOGNAME") or environ.get("USERNAME") or ""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64]
    return {"Submitter": plain} if plain else {}


def is_loopback(server: str) -> bool:
    """Whether the server is this machine itself."""
    host = urlsplit(server).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
