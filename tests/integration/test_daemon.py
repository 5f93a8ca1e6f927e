"""The daemons and whoever started them: what systemd is told, the probe, and being asked twice to stop."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.integration.cluster import RealCluster, eventually

ROOT = Path(__file__).parents[2]


class Manager:
    """A service manager's end of the socket: what it was told, in order."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(60)

    def told(self) -> dict[str, str]:
        """The next datagram; fails where none comes."""
        lines = self.socket.recv(65_536).decode().split("\n")
        return dict(line.partition("=")[::2] for line in lines)

    def forget(self) -> None:
        """Let go of what was told so far."""
        self.socket.setblocking(False)
        with suppress(BlockingIOError):
            while self.socket.recv(65_536):
                pass
        self.socket.settimeout(60)

    def environ(self, watchdog_s: float | None = None) -> dict[str, str]:
        watchdog = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        return {"NOTIFY_SOCKET": self.address, **watchdog}


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "a file" else f"@retire-test-{os.getpid()}"
    found = Manager(address)
    yield found
    found.socket.close()


@pytest.mark.integration
def test_a_main_says_that_it_is_ready_lives_and_ends(cluster: RealCluster, manager: Manager) -> None:
    cluster.start_main(environ=manager.environ(watchdog_s=0.6))
    assert manager.told() == {"READY": "1"}
    beats = [manager.told() for _ in range(3)]
    assert beats == [{"STATUS": "0 of 0 devices online, 0 tasks running, 0 to do", "WATCHDOG": "1"}] * 3
    cluster.kill("main", signal.SIGTERM)
    last = beats[0]
    while last == beats[0]:
        last = manager.told()
    assert last == {"STOPPING": "1", "STATUS": "stopping"}


@pytest.mark.integration
def test_a_worker_says_whether_it_found_its_main(cluster: RealCluster, manager: Manager) -> None:
    cluster.choose_ports()
    cluster.start_worker("phone", environ=manager.environ(watchdog_s=0.6))
    assert manager.told() == {"READY": "1"}
    assert manager.told() == {"STATUS": "phone: looking for the main, 0 tasks", "WATCHDOG": "1"}
    cluster.start_main()
    eventually(lambda: manager.told()["STATUS"] == "phone: in touch with the main, 0 tasks", what="the line")
    cluster.kill("phone", signal.SIGTERM)
    eventually(lambda: "STOPPING" in manager.told(), what="the farewell")


@pytest.mark.integration
def test_nothing_is_told_where_nobody_listens(cluster: RealCluster, tmp_path: Path) -> None:
    cluster.start_main(environ={"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "300000"})
    assert cluster.request("GET", "cluster/status")["state"]
    cluster.kill("main", signal.SIGTERM)
    cluster.assert_no_tracebacks()


@pytest.mark.integration
def test_the_watchdog_hears_nothing_while_the_reactor_stands_still(cluster: RealCluster, manager: Manager) -> None:
    cluster.start_main(environ=manager.environ(watchdog_s=0.6))
    eventually(lambda: "WATCHDOG" in manager.told())
    cluster.processes["main"].send_signal(signal.SIGSTOP)
    manager.socket.settimeout(2)
    with pytest.raises(TimeoutError):
        while True:  # what was sent before it stood still
            manager.told()
    manager.socket.settimeout(60)
    cluster.processes["main"].send_signal(signal.SIGCONT)
    assert "WATCHDOG" in manager.told()


@pytest.mark.integration
def test_a_locked_database_is_no_reason_to_start_anew(cluster: RealCluster, manager: Manager) -> None:
    cluster.start_main(environ=manager.environ(watchdog_s=0.6))
    locked = sqlite3.connect(cluster.folder / "main" / "cluster.db", isolation_level=None)
    locked.execute("BEGIN IMMEDIATE")
    cluster.start_worker("phone")
    eventually(lambda: "another program" in str(cluster.request("GET", "cluster/health")["problems"]))
    manager.forget()
    assert "WATCHDOG" in manager.told()
    assert "another program" in str(cluster.request("GET", "cluster/health")["problems"])
    locked.close()


@pytest.mark.integration
def test_tasks_see_nothing_of_the_socket(cluster: RealCluster, manager: Manager) -> None:
    cluster.start_main()
    cluster.start_worker("phone", "--slots", "1", environ=manager.environ(watchdog_s=60))
    task_id = cluster.request("POST", "tasks", {"task_type": "command", "payload": {"argv": ["env"]}})["task_id"]
    task = eventually(lambda: cluster.request("GET", f"tasks/{task_id}?wait=20"))
    assert task["status"] == "completed"
    output = cluster.request("GET", f"tasks/{task_id}/result")["output"]
    assert "PATH=" in output and "NOTIFY" not in output and "WATCHDOG" not in output


@pytest.mark.integration
def test_asked_twice_to_stop_they_stop_once(cluster: RealCluster) -> None:
    cluster.start_main()
    cluster.start_worker("phone", "--slots", "1")
    argv = [sys.executable, "-c", "import time; print('on', flush=True); time.sleep(600)"]
    task_id = cluster.request("POST", "tasks", {"task_type": "command", "payload": {"argv": argv}})["task_id"]
    eventually(lambda: cluster.request("GET", f"tasks/{task_id}")["status"] == "running", what="running")

    def stops(name: str, process: subprocess.Popen[bytes]) -> bool:
        return "Received SIGTERM" in cluster.logs(name) or process.poll() is not None

    for name in ("phone", "main"):
        process = cluster.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        # A worker with a task has seconds of stopping before it; a main may be gone already.
        eventually(partial(stops, name, process))
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (-signal.SIGTERM, -signal.SIGINT)
        assert "ReactorNotRunning" not in cluster.logs(name)
    cluster.assert_no_tracebacks()


@pytest.mark.integration
def test_health_by_exit_code(cluster: RealCluster) -> None:
    def health(*options: str) -> tuple[int, str, str]:
        code = "import sys; from retirecluster.client.cli import main; sys.exit(main())"
        server = f"http://127.0.0.1:{cluster.web_port}"
        command = [sys.executable, "-c", code, "health", "--server", server, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr

    cluster.start_main()
    assert health() == health("--ready") == (0, "ok\n", "")
    cluster.kill("main", signal.SIGTERM)
    code, said, why = health()
    assert (code, said) == (1, "") and "does not answer" in why
    cluster.start_main(environ={"RETIRE_CLUSTER_MIN_FREE_BYTES": str(2**50)})
    assert health()[0] == 0
    code, said, why = health("--ready")
    assert (code, said) == (1, "") and "no new tasks are taken in" in why


@pytest.mark.parametrize("name", ["retire-main", "retire-worker"])
def test_the_units_are_valid(name: str) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed here; the units are checked where it is")
    unit = ROOT / "deploy" / "systemd" / f"{name}.service"
    done = subprocess.run([verify, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    # An unknown key is a warning alone.
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^Type=notify$", unit.read_text(), re.MULTILINE)
