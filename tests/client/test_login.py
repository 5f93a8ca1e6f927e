"""Signing in from the command line, profiles, and the authority that is pinned: against a real main with TLS."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from retirecluster.client import cli, pinning
from retirecluster.client.commands_login import Target, read_target
from retirecluster.client.profiles import Profile, Profiles
from retirecluster.client.settings import Given, find_connection
from retirecluster.domain.errors import ClusterError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's configuration folder, and nothing of this user's own."""
    for name in ("SERVER", "TOKEN", "TOKEN_FILE", "DATA_DIR", "PROFILE"):
        monkeypatch.delenv(f"RETIRE_CLUSTER_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    yield tmp_path / "config" / "retirecluster"


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Any:
    """`await typed("login", ...)`: (exit code, stdout, stderr) of a command that needs no reactor, in a thread."""

    async def run(*words: str) -> tuple[int, str, str]:
        code = await deferToThread(cli.main, list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def token_file(node: Any) -> Path:
    path: Path = node.rooms.database.path.parent / "admin.token"
    return path


def modes(*paths: Path) -> list[int | None]:
    """The permissions of files and folders; None for those that are not."""
    return [stat.S_IMODE(each.stat().st_mode) if each.exists() else None for each in paths]


def test_what_a_link_says() -> None:
    link = "https://nas:5000/login?code=abc-_1#ca=" + "0" * 64
    assert read_target(link) == Target("https://nas:5000", "abc-_1", "0" * 64)
    assert read_target("nas") == Target("http://nas:5000")
    assert read_target("https://nas:1/") == Target("https://nas:1")


@pytest_twisted.ensureDeferred
async def test_a_link_over_tls_makes_a_profile_of_its_own_token(make_node: Any, home: Path, typed: Any) -> None:
    node = make_node(tls="on")
    server, authority = f"https://127.0.0.1:{node.web_port}", node.rooms.admission.authority
    link = f"{server}/login?code={node.rooms.access.new_code()}#ca={authority.hash}"
    code, out, err = await typed("login", link, "--profile", "home")
    assert (code, err) == (0, ""), err
    [row] = node.rooms.access.tokens()
    assert out == f"home: {server}, as token:{row.name} (admin)\n" and row.name.startswith("cli-")
    assert modes(home, home / "client.json") == [0o700, 0o600]
    found = find_connection(Given(), {"XDG_CONFIG_HOME": str(home.parent)})
    assert (found.server, found.ca) == (server, authority.pem)
    assert found.token not in repr(found) + repr(Profiles.load({"XDG_CONFIG_HOME": str(home.parent)}))
    assert node.rooms.access.by_token(found.token).role == "admin"
    assert node.rooms.access._sessions == {}, "the session that made the token is over"

    from twisted.internet import reactor

    from retirecluster.client.api import ClusterApi

    api = ClusterApi(server, found.token, reactor=reactor, ca=found.ca)
    assert (await api.request("GET", "session"))["how"] == "token"
    await api.close()
    code, out, _ = await typed("profiles", "list", "-o", "json")
    assert json.loads(out) == [{"name": "home", "server": server, "current": True, "pinned": True}]
    again = await typed("login", link, "--profile", "other")
    assert again[0] == 3 and "used already" in again[2] and "login-link" in again[2]
    code, out, err = await typed("logout")
    assert (code, out, err) == (0, "home is forgotten\n", "")
    assert node.rooms.access.tokens() == []
    assert json.loads((home / "client.json").read_text()) == {"current": "", "profiles": {}}


@pytest_twisted.ensureDeferred
async def test_nothing_secret_reaches_a_main_of_another_authority(
    make_node: Any, home: Path, typed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = make_node(tls="on"), make_node(tmp_path / "wrong", tls="on")
    heard: list[tuple[bytes, Any]] = []
    real = wrong.site.answered
    monkeypatch.setattr(wrong.site, "answered", lambda *told: (heard.append(told[:2]), real(*told))[1])
    server, ca_hash = f"https://127.0.0.1:{wrong.web_port}", right.rooms.admission.authority.hash
    secret = str(token_file(right))
    code, _, err = await typed("login", server, "--token-file", secret, "--ca-hash", ca_hash)
    assert code == 3 and "another authority" in err and "nothing was sent" in err
    assert heard == [("/ca.crt", b"GET")], "all that it was asked"
    assert modes(home) == [None], "and nothing is kept"
    code, _, err = await typed("login", server, "--token-file", secret)
    assert code == 3 and "not trusted" in err and "--ca-hash" in err
    ca = right.rooms.admission.authority.pem
    with pytest.raises(ClusterError, match="not of the pinned authority"):
        await deferToThread(pinning.ask, server, ca, "GET", "/api/v1/session")
    from twisted.internet import reactor

    from retirecluster.client.api import ClusterApi

    api = ClusterApi(server, "secret", reactor=reactor, ca=ca)
    with pytest.raises(ClusterError):
        await api.request("GET", "session")
    await api.close()
    assert len(heard) == 1, "and it was asked nothing after that"


@pytest_twisted.ensureDeferred
async def test_a_token_signs_in_in_the_clear_on_this_machine(node: Any, home: Path, typed: Any) -> None:
    server = f"http://127.0.0.1:{node.web_port}"
    code, out, _ = await typed("login", server, "--token-file", str(token_file(node)))
    assert (code, out) == (0, f"127.0.0.1: {server}, as admin (admin)\n")
    code, _, err = await typed("login", server, "--token", "wrong", "--profile", "x")
    assert code == 3 and "did not accept the token" in err
    code, out, _ = await typed("profiles", "use", "127.0.0.1")
    assert code == 0
    code, _, err = await typed("profiles", "use", "nothing")
    assert code == 5 and "there are: 127.0.0.1" in err
    code, out, _ = await typed("complete", "--", "retire-cluster profiles use ")
    assert out.split("\t")[0].strip() == "127.0.0.1"
    assert (await typed("profiles", "remove", "127.0.0.1"))[0] == 0
    assert Profiles.load({"XDG_CONFIG_HOME": str(home.parent)}).by_name == {}


def test_which_main_and_which_token(tmp_path: Path) -> None:
    """The command line over the environment over the profile over this machine's main; no token goes elsewhere."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    profiles = Profiles.load(environ)
    profiles.by_name = {"home": Profile("http://nas:5000", "home-token"), "work": Profile("https://w:1", "work-token")}
    profiles.current = "home"
    profiles.save()

    def found(given: Given | None = None, **more: str) -> tuple[str, str]:
        connection = find_connection(
            given or Given(), environ | {f"RETIRE_CLUSTER_{name}": text for name, text in more.items()}
        )
        return connection.server, connection.token

    assert found() == ("http://nas:5000", "home-token")
    assert found(Given(profile="work")) == ("https://w:1", "work-token")
    assert found(PROFILE="work") == ("https://w:1", "work-token")
    assert found(Given(profile="home"), PROFILE="work", SERVER="other", TOKEN="t") == ("http://nas:5000", "home-token")
    assert found(SERVER="other") == ("http://other:5000", ""), "a profile's token is for its own main"
    assert found(Given(server="other"), TOKEN="t") == ("http://other:5000", "t")
    assert found(Given(server="nas")) == ("http://nas:5000", "home-token")
    assert found(Given(token="t")) == ("http://nas:5000", "t")
    assert found(TOKEN="t") == ("http://nas:5000", "t")
    (tmp_path / "admin.token").write_text("local")
    assert found(Given(data_dir=str(tmp_path))) == ("http://127.0.0.1:5000", "local")
    assert found(DATA_DIR=str(tmp_path)) == ("http://127.0.0.1:5000", "local")
    with pytest.raises(ClusterError, match="there are: home, work"):
        found(Given(profile="none"))
    (tmp_path / "retirecluster" / "client.json").write_text("{")
    with pytest.raises(ClusterError, match="damaged"):
        found()
