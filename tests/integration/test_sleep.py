"""Devices that sleep, with real processes: a worker whose owner named a command, a main, and packets that wake it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from retirecluster.domain.wake import magic_packet
from tests.integration.cluster import RealCluster, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="a made-up /sys is read by the worker for Linux"),
]
PROGRAM = "import sys; from retirecluster.client.cli import main; sys.exit(main())"
MAC = "00:11:22:aa:bb:01"
SLEEP = """
echo slept >> "$1/sleeps"
touch "$1/asleep"
for n in $(seq 900); do [ -e "$1/asleep" ] && sleep 0.1; done
exit 0
"""
"""Returns when it is woken, as a suspend does: here, when the file is removed."""


class Sleeper:
    """A laptop that its test can wake: a hardware address under a made-up /sys, and a file instead of the sleep."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.folder = cluster.folder / "laptop-files"
        card = self.folder / "root/sys/class/net/eth0"
        (card / "device").mkdir(parents=True)
        (card / "address").write_text(f"{MAC}\n")
        self.script = self.folder / "suspend.sh"
        self.script.write_text(SLEEP)

    def start(self, command: list[str] | None = None, after_s: float = 1.0) -> None:
        settings = {
            "system_root": str(self.folder / "root"),
            "wake_on_lan": True,
            "idle_sleep_command": command or ["sh", str(self.script), str(self.folder)],
            "idle_sleep_after_s": after_s,
            "slots": 1,
        }
        config = self.cluster.folder / "laptop.json"
        config.write_text(json.dumps(settings))
        self.cluster.start_worker("laptop", "--config", str(config))

    @property
    def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = self.cluster.get("devices/laptop")
        return found

    @property
    def sleeps(self) -> int:
        """How often the command has run."""
        path = self.folder / "sleeps"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def falls_asleep(self) -> None:
        eventually((self.folder / "asleep").exists, what="the command")
        assert self.cluster.devices()["laptop"] == "asleep", "it said so before it slept"

    def is_woken(self) -> None:
        (self.folder / "asleep").unlink()


@pytest.fixture
def segment() -> Iterator[socket.socket]:
    """What hears the packets, instead of a network card."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(30)
        yield one


@pytest.fixture
def sleeper(cluster: RealCluster, segment: socket.socket) -> Sleeper:
    """A main that wakes devices, and a device that is not started yet."""
    settings = {
        "wake_on_lan": True,
        "wake_broadcast": "127.0.0.1",
        "wake_port": segment.getsockname()[1],
        "heartbeat_interval_s": 0.5,
        "offline_after_s": 2,
    }
    (cluster.folder / "main.json").write_text(json.dumps(settings))
    cluster.start_main("--config", str(cluster.folder / "main.json"))
    return Sleeper(cluster)


def command_line(cluster: RealCluster, *words: str) -> subprocess.CompletedProcess[str]:
    options = ["--server", f"http://127.0.0.1:{cluster.web_port}", "--data-dir", str(cluster.folder / "main")]
    program = [sys.executable, "-c", PROGRAM, *words, *options]
    return subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow  # it keeps away for 15 s after its command has returned
def test_an_idle_device_sleeps_a_task_wakes_it_and_it_comes_back(sleeper: Sleeper, segment: socket.socket) -> None:
    cluster = sleeper.cluster
    sleeper.start()
    sleeper.falls_asleep()
    assert sleeper.shown["wake"]["macs"] == [MAC]
    (task_id,) = cluster.submit({"task_type": "echo", "payload": {"message": "wake up"}})
    assert segment.recv(2000) == magic_packet(MAC)
    [laptop] = cluster.get(f"tasks/{task_id}/why")["devices"]
    assert laptop["reasons"][0].startswith("asleep: woken ")
    assert cluster.devices()["laptop"] == "asleep", "however long ago it was heard of last"
    sleeper.is_woken()
    assert cluster.ended(task_id)["device_id"] == "laptop"
    assert sleeper.shown["trust_ledger"]["flaps"] == 0, "who says goodbye does not flap"
    assert sleeper.shown["wake"]["woken"] == 0, "it came"
    sleeper.falls_asleep()
    assert (sleeper.sleeps, sleeper.shown["trust_ledger"]["flaps"]) == (2, 0)
    sleeper.is_woken()


def test_a_person_wakes_it_from_the_command_line(sleeper: Sleeper, segment: socket.socket) -> None:
    sleeper.start()
    sleeper.falls_asleep()
    done = command_line(sleeper.cluster, "devices", "wake", "laptop")
    assert done.returncode == 0, done.stderr
    assert segment.recv(2000) == magic_packet(MAC)
    again = command_line(sleeper.cluster, "devices", "wake", "laptop")
    assert again.returncode != 0
    assert "between two packets" in again.stderr
    sleeper.is_woken()


def test_what_works_stays_awake(sleeper: Sleeper) -> None:
    (task_id,) = sleeper.cluster.submit({"task_type": "sleep", "payload": {"duration": 4}})
    sleeper.start()
    assert sleeper.cluster.ended(task_id)["status"] == "completed"
    assert sleeper.sleeps == 0, "four times as long as it takes to fall asleep"
    sleeper.falls_asleep()
    sleeper.is_woken()


def test_where_the_command_fails_the_device_is_back_at_once(sleeper: Sleeper) -> None:
    script = f'echo slept >> "{sleeper.folder}/sleeps"; echo no rights to suspend >&2; exit 3'
    sleeper.start(["sh", "-c", script])
    eventually(lambda: sleeper.sleeps >= 2, what="the second try")
    eventually(lambda: sleeper.cluster.devices()["laptop"] == "online", what="online again")
    assert "exit status 3: no rights to suspend" in sleeper.cluster.logs("laptop")
    assert sleeper.shown["trust_ledger"]["flaps"] == 0


def test_a_worker_that_is_stopped_while_its_device_goes_to_sleep_ends(sleeper: Sleeper) -> None:
    sleeper.start()
    sleeper.falls_asleep()
    process = sleeper.cluster.processes["laptop"]
    os.kill(process.pid, signal.SIGTERM)
    process.wait(30)
    assert "Server Shut Down." in sleeper.cluster.logs("laptop")
    assert "Traceback" not in sleeper.cluster.logs("laptop")
    assert sleeper.cluster.logs("laptop").count("registered as") == 1, "it did not come back to leave again"
    sleeper.is_woken()
