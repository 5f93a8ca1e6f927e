"""The wall clock of the main or of a worker jumps by ten years: nothing waits for ever, nothing fires early.

Needs libfaketime (Debian: apt-get install libfaketime), which is loaded into one process alone and moves its wall
clock, not its monotonic one.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.checker import AT_MOST_ONCE, Checker, Client, Marks
from tests.integration.cluster import RealCluster, eventually

pytestmark = pytest.mark.integration
WORKERS = ("one", "two")
SETTINGS = {
    "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.5",
    "RETIRE_CLUSTER_OFFLINE_AFTER_S": "2",
    "RETIRE_CLUSTER_LEASE_S": "2",
    "RETIRE_CLUSTER_SLOTS": "4",
}
TEN_YEARS = "3652d"


def library() -> str:
    """The path of libfaketime; skips where it is not installed."""
    for folder in (Path("/usr/lib"), Path("/usr/local/lib")):
        for path in sorted(folder.glob("**/libfaketime.so.1")):
            return str(path)
    print("skipped: libfaketime is not installed")
    pytest.skip("libfaketime is not installed (apt-get install libfaketime)")


class Clock:
    """The wall clock of one process."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "faketime"
        self.jump("+0d")
        self.environ = {
            "LD_PRELOAD": library(),
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # else waits of threads that contend for the interpreter last too long
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # without a cache each look at the clock reads the file
        }

    def jump(self, offset: str) -> None:
        draft = self._file.with_suffix(".new")
        draft.write_text(offset + "\n")
        draft.replace(self._file)


@pytest.mark.parametrize("offset", [f"+{TEN_YEARS}", f"-{TEN_YEARS}"])
@pytest.mark.parametrize("victim", ["main", "one"])
def test_a_clock_jumps_while_tasks_run(cluster: RealCluster, tmp_path: Path, victim: str, offset: str) -> None:
    clock = Clock(tmp_path)
    cluster.environ = SETTINGS
    cluster.start_main(environ=clock.environ if victim == "main" else None)
    for name in WORKERS:
        cluster.start_worker(name, environ=clock.environ if name == victim else None)
    cluster.wait_online(*WORKERS)
    client = Client(cluster, Marks(tmp_path / "marks"))
    client.submit(2, 2.5, on_disconnect="stop")
    client.submit(2, 2.5, delivery=AT_MOST_ONCE)
    failing = {"task_type": "command", "payload": {"argv": ["false"]}, "max_retries": 1}
    [retried, late] = cluster.submit(failing, {"task_type": "echo", "requirements": {"gpu": True}, "deadline_s": 3.0})
    eventually(lambda: len(client.marks.runs()) == 4, what="four starts")
    began = time.monotonic()
    clock.jump(offset)
    time.sleep(1.2)  # until every look at the clock sees it
    client.submit(4, 0.1)
    counts = Checker(client).check(WORKERS)
    assert (counts["starts"], counts["lost"]) == (8, 0)
    assert [each["charged"] for each in cluster.ended(retried)["attempts"]].count(True) == 2
    assert cluster.ended(late, 5)["status"] == "expired"
    assert time.monotonic() - began < 8
    assert cluster.devices() == {"one": "online", "two": "online"}
    if victim == "main":
        _restart_in_another_time(cluster, client, clock)


def _restart_in_another_time(cluster: RealCluster, client: Client, clock: Clock) -> None:
    """What was stored before the jump is read after it."""
    client.submit(2, 1.0)
    [waiting] = cluster.submit({"task_type": "command", "payload": {"argv": ["false"]}, "max_retries": 1})
    eventually(lambda: len(client.marks.runs()) == 10, what="two more starts")
    cluster.kill("main")
    clock.jump("+0d")
    cluster.start_main(environ=clock.environ)
    counts = Checker(client).check(WORKERS)
    assert (counts["starts"], counts["lost"]) == (10, 0)
    ended: dict[str, Any] = cluster.ended(waiting, 10)
    # An attempt that was granted when the main died, and not sent, is not charged.
    assert ended["status"] == "failed" and [each["charged"] for each in ended["attempts"]].count(True) == 2
