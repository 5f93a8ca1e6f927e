"""Every curl command of the pages in docs/, run as it stands against a real main."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import RealCluster

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]
DOCS = Path(__file__).parents[2] / "docs"
COMMAND = re.compile(r"^ *(curl (?:.*\\\n)*.*)$", re.MULTILINE)
BLOCK = re.compile(r"```[a-z]*\n(.*?)```|^((?: {4}.*\n)+)", re.DOTALL | re.MULTILINE)
TIMED_OUT = 28
"""The exit code of curl after --max-time."""


def commands() -> list[tuple[str, str]]:
    """(page, command)"""
    found = []
    for page in sorted(DOCS.glob("*.md")):
        for block in BLOCK.finditer(page.read_text()):
            found += [(page.name, command) for command in COMMAND.findall(block[1] or block[2])]
    return found


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, dict[str, str]]]:
    """The start of a script, the folder to run it in, and its environment."""
    real = RealCluster(tmp_path_factory.mktemp("curl"))
    real.start_main()
    real.start_worker("one", "--slots", "2")
    real.wait_online("one")
    folder = tmp_path_factory.mktemp("here")
    (folder / "film.mov").write_bytes(b"film")
    film = {"argv": ["sh", "-c", "echo film > film.mp4"]}
    [task_id] = real.submit({"task_type": "command", "payload": film, "files": {"outputs": ["film.mp4"]}})
    assert real.ended(task_id)["status"] == "completed"
    start = 'curl() { command curl -sS --fail-with-body "$@"; }\nsum=$(sha256sum film.mov | cut -d" " -f1)\n'
    variables = {"TOKEN": real.token, "TASK": task_id, "DEVICE": "one", "PORT": str(real.web_port)}
    yield start, folder, {**os.environ, **variables}
    real.stop()
    real.assert_no_tracebacks()


def test_the_pages_have_commands() -> None:
    pages = [page for page, _ in commands()]
    assert pages.count("http.md") >= 10 and {"policy.md", "files.md", "commands.md", "getting-started.md"} <= set(pages)


@pytest.mark.parametrize("number", range(len(commands())))
def test_a_command_of_a_page(number: int, shell: tuple[str, Path, dict[str, str]]) -> None:
    start, folder, environ = shell
    _, command = commands()[number]
    for name, value in (("127.0.0.1:5000", "127.0.0.1:$PORT"), ("localhost:5000", "localhost:$PORT")):
        command = command.replace(name, value)
    command = command.replace("TASK_ID", environ["TASK"]).replace("/ID/", f"/{environ['TASK']}/")
    command = command.replace("'http://127.0.0.1:$PORT", "http://127.0.0.1:$PORT'")  # a shell replaces nothing in these
    endless = " -N " in command
    script = start + (command.replace(" -N ", " -N --max-time 3 ") if endless else command)
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == (TIMED_OUT if endless else 0), done.stdout + done.stderr
    assert done.stdout.strip() or "-OJ" in command
    if "-OJ" in command:
        assert (folder / "film.mp4").read_text() == "film\n"
