"""Which main node, and which token: the command line over RETIRE_CLUSTER_* variables over what lies in place."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from attrs import field, frozen

from retirecluster.config import default_data_dir
from retirecluster.domain.errors import ClusterError

DEFAULT_SERVER = "http://127.0.0.1:5000"
DEFAULT_WEB_PORT = 5000
TOKEN_FILE = "admin.token"


@frozen
class Connection:
    """The base URL of the main's web port, and a token (empty if none was found)."""

    server: str
    token: str = field(default="", repr=False)


@frozen
class Given:
    """What the command line says; None for what it does not."""

    server: str | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    data_dir: str | None = None


def find_connection(given: Given, environ: Mapping[str, str]) -> Connection:
    """The server and the token to use. Raises ClusterError where something named cannot be read."""
    server = server_url(given.server or environ.get("RETIRE_CLUSTER_SERVER") or DEFAULT_SERVER)
    return Connection(server, _find_token(given, environ, server))


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


def _find_token(given: Given, environ: Mapping[str, str], server: str) -> str:
    if given.token is not None:
        return _checked(given.token, "--token")
    if given.token_file is not None:
        return _from_file(Path(given.token_file), "--token-file")
    if environ.get("RETIRE_CLUSTER_TOKEN"):
        return _checked(environ["RETIRE_CLUSTER_TOKEN"], "RETIRE_CLUSTER_TOKEN")
    if environ.get("RETIRE_CLUSTER_TOKEN_FILE"):
        return _from_file(Path(environ["RETIRE_CLUSTER_TOKEN_FILE"]), "RETIRE_CLUSTER_TOKEN_FILE")
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
