"""Which server and which token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.client import settings
from retirecluster.client.settings import Given, find_connection, is_loopback, server_url
from retirecluster.domain.commands.task_options import REQUIREMENT_OPTIONS, TASK_OPTIONS
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.requirements import REQUIREMENT_FIELDS
from retirecluster.domain.tasks import TASK_FIELDS
from retirecluster.render.output_text import SafeOutput


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("nas", "http://nas:5000"),
        ("nas:80", "http://nas:80"),
        ("http://nas", "http://nas"),
        ("https://nas/retire/", "https://nas/retire"),
        ("[::1]", "http://[::1]:5000"),
        ("[::1]:81", "http://[::1]:81"),
    ],
)
def test_servers_may_be_written_short(text: str, url: str) -> None:
    assert server_url(text) == url


@pytest.mark.parametrize("text", ["", " ", "ftp://x", "http://", "nas:port", "http://x?y", ":80", "nas:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ClusterError):
        server_url(text)


def test_the_token_of_this_machine_is_shown_to_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "default_data_dir", lambda kind: str(tmp_path))
    (tmp_path / "admin.token").write_text("here\n")
    assert find_connection(Given(), {}).token == "here"
    assert find_connection(Given(server="nas"), {}).token == ""
    assert find_connection(Given(server="nas", data_dir=str(tmp_path)), {}).token == "here"


def test_the_command_line_comes_before_the_environment(tmp_path: Path) -> None:
    environ = {"RETIRE_CLUSTER_SERVER": "there", "RETIRE_CLUSTER_TOKEN": "from-environ"}
    found = find_connection(Given(), environ)
    assert (found.server, found.token) == ("http://there:5000", "from-environ")
    found = find_connection(Given(server="here", token="given"), environ)
    assert (found.server, found.token) == ("http://here:5000", "given")
    assert "given" not in repr(found)
    (tmp_path / "token").write_text("from-file\n")
    in_file = {"RETIRE_CLUSTER_TOKEN_FILE": str(tmp_path / "token")}
    assert find_connection(Given(), in_file).token == "from-file"
    assert find_connection(Given(), environ | in_file).token == "from-environ"
    with pytest.raises(ClusterError, match="RETIRE_CLUSTER_TOKEN_FILE"):
        find_connection(Given(), {"RETIRE_CLUSTER_TOKEN_FILE": str(tmp_path / "none")})


def test_loopback_is_known() -> None:
    assert is_loopback("http://127.0.0.1:5000") and is_loopback("http://localhost") and is_loopback("http://[::1]:1")
    assert not is_loopback("http://nas:5000") and not is_loopback("http://127.0.0.1.evil.example")


def test_every_field_of_a_task_has_an_option() -> None:
    by_other_means = {"task_type", "payload", "requirements"}
    assert {option.field for option in TASK_OPTIONS} == TASK_FIELDS.by_name.keys() - by_other_means
    assert {option.field for option in REQUIREMENT_OPTIONS} == REQUIREMENT_FIELDS.by_name.keys()


output = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x1b[31m0;\n\t\r\x07"), max_size=60)


@given(output, st.data())
def test_output_is_safe_and_the_same_however_it_is_cut(text: str, draw: st.DataObject) -> None:
    cut = draw.draw(st.integers(0, len(text)))
    safe, whole = SafeOutput(), SafeOutput()
    text = text.replace("\r\n", "\n")
    parts = safe.feed(text[:cut]) + safe.feed(text[cut:]) + safe.flush()
    assert parts == whole.feed(text) + whole.flush()
    left = parts
    while "\x1b[" in left:
        start = left.index("\x1b[")
        end = left.index("m", start)
        assert set(left[start + 2 : end]) <= set("0123456789;:")
        left = left[:start] + left[end + 1 :]
    assert not set(left) & (set(map(chr, range(32))) - set("\n\t"))


def test_colours_pass_and_tricks_do_not() -> None:
    safe = SafeOutput()
    assert safe.feed("\x1b[1;31mred\x1b[0m\x1b]0;title\x07\x1b[2J") == "\x1b[1;31mred\x1b[0m\\x1b]0;title\\x07\\x1b[2J"
