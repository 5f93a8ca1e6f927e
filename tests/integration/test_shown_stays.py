"""What the API has shown of a task is never taken back, however the main ends: answers from memory are of the disk."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import HttpProblem, RealCluster, eventually

pytestmark = pytest.mark.integration
NOBODY = {"task_type": "echo", "payload": {}, "requirements": {"device": "nobody"}}
FINAL = "cancelled"


def read_on(cluster: RealCluster, ids: list[str], shown: list[dict[str, str]], ended: threading.Event) -> None:
    """Ask for the tasks again and again, one and all, until the main is gone; `shown` is what it said last."""
    last: dict[str, str] = {}
    shown.append(last)
    while not ended.is_set():
        for task_id in ids:
            try:
                found: list[dict[str, Any]] = [cluster.get(f"tasks/{task_id}"), *cluster.get("tasks?limit=20")["tasks"]]
            except (OSError, HttpProblem):
                return
            for task in found:
                before = last.get(task["task_id"])
                assert before != FINAL or task["status"] == FINAL, "shown as over, then not"
                last[task["task_id"]] = task["status"]


def all_saw_an_end(shown: list[dict[str, str]]) -> bool:
    return len(shown) == 3 and all(FINAL in list(each.values()) for each in shown)


def test_what_was_shown_is_still_so_after_a_kill(cluster: RealCluster, tmp_path: Path) -> None:
    cluster.start_main()
    ids = cluster.submit(*[NOBODY] * 20)
    for _ in range(3):
        shown, ended = list[dict[str, str]](), threading.Event()
        readers = [threading.Thread(target=read_on, args=(cluster, ids, shown, ended)) for _ in range(3)]
        for each in readers:
            each.start()
        for task_id in ids[: len(ids) // 2]:
            cluster.request("POST", f"tasks/{task_id}/cancel", {"reason": "for a test"})
        eventually(partial(all_saw_an_end, shown), what="a look")
        cluster.kill("main")
        ended.set()
        for each in readers:
            each.join()
        cluster.start_main()
        for said in shown:
            for task_id, status in said.items():
                assert status != FINAL or cluster.get(f"tasks/{task_id}")["status"] == FINAL
        ids = ids[len(ids) // 2 :] + cluster.submit(*[NOBODY] * 10)
    cluster.assert_no_tracebacks()
