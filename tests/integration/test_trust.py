"""A device that gives wrong results is found by `verify: 2` among three real workers, and put into quarantine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import HttpProblem, RealCluster, eventually

pytestmark = pytest.mark.integration
WRONG, RIGHT = "liar", ("honest", "upright")
LIES = "def double(number):\n    return number * 2 + 1\n"
TRUTH = "def double(number):\n    return number * 2\n"
CALL = {"task_type": "python_call", "payload": {"function": "sums:double", "arguments": [21]}, "verify": 2}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    """A main and three workers; the same function gives something else on one of them."""
    cluster = RealCluster(tmp_path)
    cluster.choose_ports()
    cluster.start_main()
    for name in (WRONG, *RIGHT):
        site = tmp_path / f"site-{name}"
        site.mkdir()
        (site / "sums.py").write_text(LIES if name == WRONG else TRUTH)
        cluster.start_worker(name, environ={"PYTHONPATH": str(site)})
    cluster.wait_online(WRONG, *RIGHT)
    yield cluster
    cluster.stop()
    cluster.assert_no_tracebacks()


def verified(cluster: RealCluster, count: int) -> list[dict[str, Any]]:
    """So many at once that every device gets some, whatever it is worth."""
    return [cluster.ended(task_id) for task_id in cluster.submit(*[CALL] * count)]


def test_a_device_that_lies_is_found_and_let_go_again(cluster: RealCluster) -> None:
    device: dict[str, Any] = {}
    for _ in range(10):
        for task in verified(cluster, 12):
            assert (task["status"], task["verified"], task["verification"]["state"]) == ("completed", True, "agreed")
            assert task["device_id"] in RIGHT
            assert cluster.get(f"tasks/{task['task_id']}/result")["output"]["repr"] == "42"
        device = cluster.get(f"devices/{WRONG}")
        if device["status"] == "quarantined":
            break
    assert re.fullmatch(r"([2-9]|\d\d+) wrong results in \d+ verified tasks", device["reason"]), device["reason"]
    assert device["trust"] < 0.3
    assert device["quarantine"]["probe_in_s"] > 3000
    # while it is there, nothing runs on it, also after a restart of the main
    cluster.kill("main")
    cluster.start_main()
    eventually(lambda: cluster.devices() == {WRONG: "quarantined", **dict.fromkeys(RIGHT, "online")}, what="all back")
    assert cluster.get(f"devices/{WRONG}")["reason"] == device["reason"]
    [task] = verified(cluster, 1)
    copies = task["verification"]["copies"]
    assert {each["device_id"] for each in copies} == set(RIGHT)
    assert cluster.request("POST", f"devices/{WRONG}/release", {})["status"] == "online"
    with pytest.raises(HttpProblem) as caught:
        cluster.request("POST", f"devices/{WRONG}/release", {})
    assert caught.value.status == 409
    [row] = cluster.get("audit?action=device.release")["audit"]
    assert (row["actor"], row["subject"], row["detail"]["reason"]) == ("admin", WRONG, device["reason"])
