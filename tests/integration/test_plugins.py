"""The example plug-in of the documentation, installed and run by a real worker."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import HttpProblem, RealCluster

pytestmark = pytest.mark.integration
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "wordcount_plugin"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """A main, a worker with the example installed, and one without."""
    folder = tmp_path_factory.mktemp("plugins")
    source = folder / "source"
    source.mkdir()
    for path in EXAMPLE.iterdir():  # a build writes beside the source
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--target", str(folder / "site"), str(source)], check=True, timeout=120)
    cluster = RealCluster(folder)
    cluster.start_main()
    cluster.start_worker("plain")
    cluster.start_worker("counter", environ={"PYTHONPATH": str(folder / "site")})
    cluster.wait_online("plain", "counter")
    yield cluster
    cluster.stop()
    cluster.assert_no_tracebacks()


def test_its_tasks_run_where_it_is_installed(cluster: RealCluster) -> None:
    [task_id] = cluster.submit({"task_type": "word_count", "payload": {"text": "To be or\nnot to be", "top": 1}})
    assert cluster.ended(task_id)["device_id"] == "counter"
    assert cluster.get(f"tasks/{task_id}/result")["output"] == {"words": 6, "most": [["to", 2]]}


def test_its_type_is_listed_with_its_schema(cluster: RealCluster) -> None:
    found = {each["task_type"]: each for each in cluster.get("tasks/types")["types"]}["word_count"]
    assert (found["devices"], found["doc"], found["warm"]) == (["counter"], "Count the words of a text.", True)
    assert found["payload"]["properties"]["top"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 10}


@pytest.mark.parametrize(
    ("payload", "path", "message"),
    [
        ({}, "payload.text", "is required"),
        ({"text": "a", "top": 0}, "payload.top", "must be 1 to 1000, not 0"),
        ({"text": "a", "tpo": 1}, "payload.tpo", "did you mean top?"),
    ],
)
def test_payloads_are_checked_at_submit(
    cluster: RealCluster, payload: dict[str, object], path: str, message: str
) -> None:
    with pytest.raises(HttpProblem) as caught:
        cluster.request("POST", "tasks", {"task_type": "word_count", "payload": payload})
    assert caught.value.status == 422
    [error] = json.loads(caught.value.body)["errors"]
    assert error["field"] == path and message in error["message"]
