"""Every Python program of docs/python.md and the README, run as it stands; what it prints is what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import RealCluster

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]
PROGRAM = re.compile(r"```python\n(?P<program>.*?)```\n(?:\n```text\n(?P<printed>.*?)```\n)?", re.DOTALL)


def programs() -> Iterator[tuple[str, str, str | None]]:
    for page in ("docs/python.md", "README.md"):
        for found in PROGRAM.finditer((ROOT / page).read_text()):
            if "retirecluster.client import" in found["program"]:
                yield page, found["program"], found["printed"]


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    real = RealCluster(tmp_path_factory.mktemp("docs"))
    real.start_main()
    real.start_worker("one", "--slots", "2")
    real.wait_online("one")
    yield {
        **os.environ,
        "RETIRE_CLUSTER_SERVER": f"127.0.0.1:{real.web_port}",
        "RETIRE_CLUSTER_TOKEN": real.token,
    }
    real.stop()
    real.assert_no_tracebacks()


def test_the_pages_have_programs() -> None:
    assert [page for page, _, _ in programs()].count("docs/python.md") >= 6
    assert "README.md" in {page for page, _, _ in programs()}


@pytest.mark.parametrize("number", range(len(list(programs()))))
def test_a_program_of_the_page(number: int, environ: dict[str, str], tmp_path: Path) -> None:
    _, program, printed = list(programs())[number]
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], env=environ, cwd=tmp_path, text=True, capture_output=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert printed is None or done.stdout == printed
