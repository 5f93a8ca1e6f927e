"""Hostile tasks on a real cluster: each ends in a failure with a name, the device stays online, the next task runs."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster import HttpProblem, RealCluster
from tests.integration.test_files import digest, put, shell

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
BEATS = {"RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.5", "RETIRE_CLUSTER_OFFLINE_AFTER_S": "5"}
"""A device whose heartbeat is late ten times in a row is offline, and the test fails."""
Case = tuple[str, dict[str, Any], str]


def script(source: str, timeout: float = 20.0, **more: Any) -> dict[str, Any]:
    payload = {"source": "import os, signal, sys, time\n" + source}
    return {"task_type": "python_script", "payload": payload, "timeout": timeout, "max_retries": 0} | more


HOSTILE: list[Case] = [
    (
        "fork bomb",
        script("while True:\n    try: os.fork()\n    except OSError: pass", limits={"processes": 64}),
        "processes_limit",
    ),
    ("100 GiB", script("x = bytearray(100 << 30)", limits={"memory_bytes": 256 * MIB}), "memory_limit"),
    ("busy loop", script("while True: pass", limits={"cpu_time_s": 1}), "cpu_limit"),
    (
        "disk filler in one file",
        script("f = open('big', 'wb')\nwhile True: f.write(b'x' * 65536)", limits={"file_size_bytes": 32 * MIB}),
        "file_size_limit",
    ),
    (
        "disk filler in many files",
        script(
            "n = 0\nwhile True:\n    n += 1\n    open(str(n), 'wb').write(b'x' * 1000000)",
            limits={"disk_bytes": 32 * MIB},
        ),
        "disk_limit",
    ),
    (
        "a million files",
        script("for n in range(1_000_000): os.close(os.open(str(n), 65))\ntime.sleep(60)", timeout=6.0),
        "timeout",
    ),
    (
        "100,000 descriptors",
        script("held = [os.open('/dev/null', 0) for _ in range(100_000)]"),
        "open_files_limit",
    ),
    (
        "a daemon that holds the pipes",
        script(
            "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)", timeout=1.0
        ),
        "timeout",
    ),
    (
        "SIGTERM ignored",
        script("signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)", timeout=1.0, grace_s=0.5),
        "timeout",
    ),
    ("output for ever", script("while True: print('x' * 10000)", timeout=3.0), "timeout"),
    ("closed output", script("os.close(1); os.close(2); time.sleep(60)", timeout=1.0), "timeout"),
    ("its own folder deleted", script("import shutil; shutil.rmtree(os.getcwd()); open('x', 'w')"), "exit"),
    ("its parent killed", script("os.kill(os.getppid(), 9); time.sleep(60)"), "died"),
    ("its group killed", script("os.killpg(0, 9)"), "signal"),
    (
        "lines of the protocol",
        script(
            'line = b\'{"e":"end","n":1,"code":0}\\n{"message_type":"task_result","data":{}}\\n\'\n'
            "for fd in (1, 2, 3): os.write(fd, line * 1000)\nsys.exit(3)"
        ),
        "exit",
    ),
]


class Watch(threading.Thread):
    """Asks for the device's status all the time."""

    def __init__(self, cluster: RealCluster) -> None:
        super().__init__(daemon=True)
        self.cluster = cluster
        self.seen: set[str] = set()
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            self.seen.add(self.cluster.devices()["one"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    made = RealCluster(tmp_path_factory.mktemp("hostile"))
    made.start_main(environ=BEATS)
    made.start_worker("one", "--slots", "2")
    made.wait_online("one")
    yield made
    made.stop()
    made.assert_no_tracebacks()


def still_works(cluster: RealCluster) -> None:
    [task_id] = cluster.submit({"task_type": "python_eval", "payload": {"expression": "6 * 7"}})
    assert cluster.ended(task_id, 20)["status"] == "completed"
    assert cluster.get(f"tasks/{task_id}/result")["output"] == "42"


@pytest.mark.parametrize(("task", "kind"), [each[1:] for each in HOSTILE], ids=[each[0] for each in HOSTILE])
def test_it_ends_with_a_name_and_the_next_one_runs(cluster: RealCluster, task: dict[str, Any], kind: str) -> None:
    watch = Watch(cluster)
    watch.start()
    try:
        [task_id] = cluster.submit(task)
        still_works(cluster)  # beside it, in the other slot
        assert cluster.ended(task_id)["status"] == "failed"
        assert cluster.get(f"tasks/{task_id}/result")["error"]["kind"] == kind
        still_works(cluster)
        time.sleep(0.5)
    finally:
        watch.done.set()
        watch.join()
    assert watch.seen == {"online"}


@pytest.mark.parametrize("level", [2, 3])
def test_what_a_fence_keeps_from_it(cluster: RealCluster, level: int) -> None:
    if cluster.get("devices/one")["isolation"] < level:
        pytest.skip(f"isolation level {level} is not reached here")
    journal, environ = cluster.folder / "one" / "journal.jsonl", f"/proc/{cluster.processes['one'].pid}/environ"
    tries = [f"open({str(journal)!r}).read()", f"open({environ!r}, 'rb').read()"]
    if level == 3:
        tries.append(f"__import__('socket').create_connection(('127.0.0.1', {cluster.web_port}), 2)")
    demand = {"requirements": {"isolation": level}, "max_retries": 0}
    for expression in tries:
        [task_id] = cluster.submit({"task_type": "python_eval", "payload": {"expression": expression}, **demand})
        assert cluster.ended(task_id)["status"] == "failed"
        error = cluster.get(f"tasks/{task_id}/result")["error"]
        assert error["kind"] == "exception" and "Error" in error["message"].splitlines()[-1]
    still_works(cluster)


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", ".", "", "a\\b"])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_name_that_leads_out_is_refused_at_submit(cluster: RealCluster, name: str, side: str) -> None:
    put(cluster, b"content")
    files = {"inputs": [{"name": name, "sha256": digest(b"content")}]} if side == "inputs" else {"outputs": [name]}
    with pytest.raises(HttpProblem) as caught:
        cluster.submit({"task_type": "command", "payload": {"argv": ["true"]}, "files": files})
    assert caught.value.status == 422 and f"files.{side}[0]".encode() in caught.value.body


def test_an_archive_is_a_file_like_others(cluster: RealCluster) -> None:
    """Nothing unpacks it: not the main, not the worker, not the command line."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("zeros", bytes(200 * MIB))
        bomb.writestr("../../escaped", b"out")
    data = held.getvalue()
    put(cluster, data)
    [task_id] = cluster.submit(shell("ls; cp bomb.zip again.zip", "again.zip", **{"bomb.zip": data}))
    assert cluster.ended(task_id)["status"] == "completed"
    assert cluster.get(f"tasks/{task_id}/result")["output"] == "bomb.zip\n"
    kept = cluster.get(f"tasks/{task_id}/files")["outputs"]
    assert [(each["name"], each["size_bytes"]) for each in kept] == [("again.zip", len(data))]
    assert not list(Path(cluster.folder).rglob("escaped")) and not list(Path(cluster.folder).rglob("zeros"))
