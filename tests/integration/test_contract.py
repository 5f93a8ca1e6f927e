"""The HTTP doors of a real main, held against the OpenAPI document that they serve, by schemathesis.

It makes requests that the document allows and such that it does not, alone and in sequences along its links, and checks
that no answer is a mistake of ours, and that each has a status, a media type, headers and a body that the document has.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.integration.cluster import RealCluster

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"),
]
CONFIG = Path(__file__).with_name("schemathesis.toml")
PROGRAM = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
CONTENT = b"a file that is there"
ECHO = {"task_type": "echo", "payload": {"message": "hello"}}


def seeded(cluster: RealCluster) -> dict[str, str]:
    """Start a main with a worker, tasks, a file and a signal: what the words of the configuration stand for."""
    cluster.start_main()
    cluster.start_worker("attic", environ={"RETIRE_CLUSTER_ALLOW_CODE": "false"})
    cluster.wait_online("attic")
    digest = sha256(CONTENT).hexdigest()
    address = f"http://127.0.0.1:{cluster.web_port}/api/v1/files/{digest}"
    with urlopen(Request(address, CONTENT, authorized(cluster), method="PUT"), timeout=30) as answer:
        assert answer.status == 201
    cluster.request("PUT", "signals/sun", {"value": 1, "ttl_s": 3600})
    ended, waiting, held = cluster.submit(
        ECHO | {"files": {"inputs": [{"name": "a.txt", "sha256": digest}]}},
        ECHO | {"requirements": {"role": "nas"}},
        ECHO | {"name": "held", "requirements": {"role": "nas"}},
    )
    cluster.request("POST", f"tasks/{held}/hold", {})
    assert cluster.ended(ended)["status"] == "completed"
    return {"DEVICE": "attic", "TASK_ENDED": ended, "TASK_WAITING": waiting, "DIGEST": digest}


def authorized(cluster: RealCluster) -> dict[str, str]:
    return {"Authorization": f"Bearer {cluster.token}", "Content-Type": "application/octet-stream"}


@pytest.fixture
def contract(cluster: RealCluster) -> Iterator[Any]:
    """A function that runs schemathesis with options, and what it reports."""
    words = seeded(cluster)
    text = re.sub("|".join(words), lambda found: words[found[0]], CONFIG.read_text())
    config = cluster.folder / "schemathesis.toml"
    config.write_text(text)

    def run(*options: str, timeout_s: float) -> str:
        address = f"http://127.0.0.1:{cluster.web_port}/api/v1/openapi.json"
        header = f"Authorization: Bearer {cluster.token}"
        done = subprocess.run(
            [*PROGRAM, "--config-file", str(config), "run", address, "--header", header, *options],
            cwd=cluster.folder,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
        return done.stdout

    yield run
    cluster.assert_no_tracebacks()
    assert cluster.processes["main"].poll() is None


STREAMS = ("--exclude-path-regex", "^/stream/")
"""They do not end: tests of their own look at them."""


def test_the_doors_are_what_their_description_says(contract: Any) -> None:
    report = contract(*STREAMS, "--phases=coverage,fuzzing,stateful", "--max-examples=5", "--seed=1", timeout_s=300)
    tested = re.search(r"Tested: (\d+)", report)
    assert tested and int(tested[1]) > 60, report


@pytest.mark.slow
def test_the_doors_at_length(contract: Any) -> None:
    contract(*STREAMS, "--phases=coverage,fuzzing,stateful", "--max-examples=100", timeout_s=3600)
