"""Configuration: which layer wins, and one line for every mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.config import KINDS, default_document, load_config
from retirecluster.domain.errors import ClusterError

TWISTD = [sys.executable, "-c", "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"]


def file(folder: Path, text: str) -> str:
    path = folder / "settings.json"
    path.write_text(text)
    return str(path)


def mistake(kind: str, cli: Any = (), environ: Any = (), path: str | None = None) -> str:
    with pytest.raises(ClusterError) as caught:
        load_config(kind, dict(cli), dict(environ), path)
    assert caught.value.code == "bad_config" and "\n" not in caught.value.message
    return caught.value.message


def test_the_layers(tmp_path: Path) -> None:
    path = file(tmp_path, '{"port": 1, "web_port": 2, "log_level": "warn"}')
    environ = {"RETIRE_CLUSTER_WEB_PORT": "3", "RETIRE_CLUSTER_LOG_LEVEL": "debug", "OTHER": "x"}
    settings = load_config("main", {"log_level": "error", "host": None}, environ, path)
    found = [settings[name] for name in ("port", "web_port", "log_level", "host")]
    assert found == [1, 3, "error", "127.0.0.1"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_default_file_is_valid_and_changes_nothing(kind: str, tmp_path: Path) -> None:
    path = file(tmp_path, json.dumps(default_document(kind)))
    assert load_config(kind, {}, {}, path) == load_config(kind, {}, {}, None) == default_document(kind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"prot": 1}', "prot: is not a known field; did you mean port?"),
        ('{"port": "8080"}', "port: must be a whole number, not '8080'"),
        ('{"port": 70000}', "port: must be 0 to 65535, not 70000"),
        ('{"port": 1, "port": 2}', "is not JSON: port stands there twice"),
        ('{"lease_s": 10}', "lease_s: must be at least twice heartbeat_interval_s (120), is 10"),
        ("[]", "must hold a JSON object such as {}"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in mistake("main", path=file(tmp_path, text))


def test_mistakes_elsewhere(tmp_path: Path) -> None:
    assert mistake("worker", {"slots": "x"}) == "command line: --slots: must be a whole number, not 'x'"
    assert mistake("main", environ={"RETIRE_CLUSTER_PORT": "x"}).startswith("environment: RETIRE_CLUSTER_PORT: must be")
    assert "did you mean RETIRE_CLUSTER_PORT?" in mistake("main", environ={"RETIRE_CLUSTER_PROT": "1"})
    assert "cannot be read" in mistake("main", path=str(tmp_path / "none.json"))
    assert "cannot be read" in mistake("main", path=str(tmp_path))


def test_lists_and_truth_in_variables() -> None:
    environ = {"RETIRE_CLUSTER_TAGS": "camera, kitchen", "RETIRE_CLUSTER_ALLOW_CODE": "False"}
    settings = load_config("worker", {}, environ, None)
    assert settings["tags"] == ["camera", "kitchen"] and settings["allow_code"] is False


@given(st.dictionaries(st.sampled_from([f.name for f in KINDS["main"].fields]), st.text(max_size=8), max_size=3))
def test_any_text_in_variables_is_taken_or_refused_in_one_line(values: dict[str, str]) -> None:
    environ = {f"RETIRE_CLUSTER_{name.upper()}": text for name, text in values.items()}
    try:
        load_config("main", {}, environ, None)
    except ClusterError as error:
        assert error.code == "bad_config" and "\n" not in error.message


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["retire-main", "--prot", "1"],
            "retire-main: command line: option --prot not recognized; did you mean --port?",
        ),
        (["retire-main", "--port", "abc"], "retire-main: command line: --port: must be a whole number, not 'abc'"),
        (
            ["retire-main", "--host", "0.0.0.0", "--tls", "off"],
            "retire-main: host: 0.0.0.0 is reachable from the network",
        ),
        (["retire-main", "--config", "/nonexistent.json"], "retire-main: /nonexistent.json: cannot be read"),
        (["retire-worker", "--slots", "0"], "retire-worker: command line: --slots: must be 1 to 4096, not 0"),
        (["retire-worker", "--join", "a:b:c"], "retire-worker: join: 'a:b:c' is no address"),
    ],
)
def test_a_daemon_says_it_in_one_line(tmp_path: Path, arguments: list[str], expected: str) -> None:
    command = [*TWISTD, "-n", "--pidfile=", *arguments, "--data-dir", str(tmp_path / "data")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.startswith(expected) and ended.stderr.count("\n") == 1


@pytest.mark.integration
@pytest.mark.parametrize("option", ["--port", "--web-port"])
def test_a_port_that_is_taken_ends_the_start(tmp_path: Path, option: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = {"--port": "0", "--web-port": "0"} | {option: str(taken.getsockname()[1])}
        given = [word for pair in ports.items() for word in pair]
        command = [*TWISTD, "-n", "--pidfile=", "retire-main", "--data-dir", str(tmp_path / "data"), *given]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert ended.returncode == 2 and "cannot be used" in ended.stderr and "Traceback" not in ended.stdout
