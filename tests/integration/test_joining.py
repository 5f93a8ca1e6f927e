"""`join` and `leave` with real workers: a made-up home, a made-up Termux, and a systemctl that starts and stops."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from retirecluster.client.console import Console
from retirecluster.client.joining import Joining, Plan
from retirecluster.client.leaving import Leaving
from retirecluster.client.local_worker import LocalWorker
from retirecluster.client.start_files import USER
from tests.integration.cluster import RealCluster, eventually

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="a made-up Termux and systemd need /proc"),
]
PROGRAM = "import sys; from retirecluster.client.cli import main; sys.exit(main())"
ON_SYSTEMD = "import retirecluster.client.commands_join as join; join.kind_here = lambda environ: join.SYSTEM; "
SYSTEMCTL = """#!PYTHON
import os, shlex, signal, subprocess, sys, time
from pathlib import Path

state, words = Path("STATE"), sys.argv[1:]
active = state / "active"

def stop():
    if active.exists():
        pid = int(active.read_text())
        os.kill(pid, signal.SIGTERM)
        while os.path.exists(f"/proc/{pid}") and "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1][:3]:
            time.sleep(0.05)
        active.unlink()

def start():
    unit = Path("UNIT").read_text()
    command = shlex.split(next(line for line in unit.splitlines() if line.startswith("ExecStart="))[10:])
    log = open(state / "journal", "ab")
    active.write_text(str(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True).pid))

match words:
    case ["--user", "daemon-reload"] | ["--user", "enable", _]:
        pass
    case ["--user", "restart", _]:
        stop()
        start()
    case ["--user", "enable", "--now", _]:
        active.exists() or start()
    case ["--user", "disable", "--now", _]:
        stop()
    case _:
        sys.exit(f"not known: {words}")
"""


class Device:
    """A device with a home of its own, on which commands are run as a person would."""

    def __init__(self, cluster: RealCluster) -> None:
        self.cluster = cluster
        self.home = cluster.folder / "home"
        self.folder = self.home / ".local/share/retirecluster/worker"
        self.prefix = cluster.folder / "com.termux/files/usr"
        (self.prefix / "bin").mkdir(parents=True)
        (self.prefix / "bin/sh").symlink_to("/bin/sh")
        self.program("termux-wake-lock", "#!/bin/sh\n")
        self.script = self.home / ".termux/boot/retire-worker"
        self.home.mkdir()

    def program(self, name: str, text: str) -> None:
        path = self.prefix / "bin" / name
        path.write_text(text)
        path.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        path = f"{self.prefix}/bin:{os.environ['PATH']}"
        return os.environ | {"HOME": str(self.home), "PATH": path, "XDG_CONFIG_HOME": str(self.home / ".config")}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.cluster.worker_port}"

    @property
    def worker(self) -> LocalWorker:
        return LocalWorker(self.folder)

    def run(self, *words: str, termux: bool = True, first: str = "") -> subprocess.CompletedProcess[str]:
        environ = self.environ | ({"PREFIX": str(self.prefix)} if termux else {})
        program = [sys.executable, "-c", first + PROGRAM, *words]
        return subprocess.run(program, capture_output=True, text=True, timeout=150, check=False, env=environ)

    def join(self, *options: str) -> str:
        done = self.run("join", self.address, "--name", "old-phone", *options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def slots(self) -> int:
        """As the main has them of a device that is there now."""
        assert self.cluster.devices()["old-phone"] == "online", "it was let in before the command said so"
        found: int = self.cluster.get("devices/old-phone")["slots"]
        return found

    def is_gone(self) -> bool:
        return self.cluster.devices()["old-phone"] == "offline" and not self.worker.runs()


@pytest.fixture
def device(cluster: RealCluster) -> Iterator[Device]:
    cluster.start_main()
    one = Device(cluster)
    yield one
    for path in cluster.folder.rglob("lock"):
        left = LocalWorker(path.parent).pid
        if left is not None and path.parent != cluster.folder / "main":
            os.kill(left, signal.SIGKILL)


def test_joining_again_on_termux_replaces_the_worker_and_leaving_ends_it(device: Device) -> None:
    assert "joined; " in device.join("--slots", "1")
    first = device.worker.pid
    assert device.slots == 1
    assert "joined; " in device.join("--slots", "2")
    assert device.worker.pid not in (None, first)
    assert device.slots == 2
    device.script.write_text(device.script.read_text() + "# mine\n")
    refused = device.run("join", device.address)
    assert refused.returncode == 5
    assert "--force overwrites it" in refused.stderr
    left = device.run("leave")
    assert left.returncode == 0, left.stderr
    eventually(device.is_gone, what="the end of the worker")
    assert "# mine" in device.script.read_text()
    again = device.run("leave")
    assert again.returncode == 5
    assert "nothing to undo" in again.stderr


def test_what_was_joined_otherwise_than_is_usual_here_is_found(device: Device) -> None:
    """A boot script on what looks like a computer with systemd, used by root."""
    device.join("--termux-boot")
    left = device.run("leave", termux=False, first=ON_SYSTEMD)
    assert left.returncode == 0, left.stderr
    eventually(device.is_gone, what="the end of the worker")
    assert not device.script.exists()
    again = device.run("leave", termux=False, first=ON_SYSTEMD)
    assert again.returncode == 5
    assert str(device.folder) in again.stderr


def test_a_worker_that_ends_at_once_has_not_joined(device: Device) -> None:
    device.program("termux-wake-lock", '#!/bin/sh\necho no wake lock; kill -9 "$PPID"\n')
    done = device.run("join", device.address)
    assert done.returncode == 4
    assert "ended at once" in done.stderr
    assert "joined;" not in done.stdout
    assert "no wake lock" in (device.folder / "worker.log").read_text()


def test_joining_again_with_systemd_restarts_the_worker(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = device.home / ".config/systemd/user/retire-worker.service"
    state = device.home / "systemd"
    state.mkdir()
    text = SYSTEMCTL.replace("PYTHON", sys.executable).replace("STATE", str(state)).replace("UNIT", str(unit))
    device.program("systemctl", text)
    monkeypatch.setenv("PATH", device.environ["PATH"])

    def join(**settings: Any) -> None:
        named = {"join": device.address, "device_id": "old-phone", **settings}
        console = Console(io.StringIO(), io.StringIO())
        assert Joining(console, device.environ).join(Plan(device.folder, USER, named)) == 0

    join(slots=1)
    assert device.slots == 1
    join(slots=2)
    assert device.slots == 2
    assert json.loads((device.folder / "worker.json").read_text())["slots"] == 2
    assert device.worker.pid == int((state / "active").read_text())
    assert Leaving(Console(io.StringIO(), io.StringIO())).leave(device.folder) == 0
    eventually(device.is_gone, what="the end of the worker")
    assert not unit.exists()


def test_leaving_ends_a_worker_in_the_foreground(device: Device) -> None:
    program = [sys.executable, "-c", PROGRAM, "join", device.address, "--name", "old-phone", "--foreground"]
    with (device.home / "foreground.txt").open("wb") as log:
        running = subprocess.Popen(program, stdout=log, stderr=log, env=device.environ)
    try:
        eventually(lambda: device.cluster.devices().get("old-phone") == "online", what="joining")
        left = device.run("leave", termux=False)
        assert left.returncode == 0, left.stderr
        assert running.wait(30) is not None
        eventually(device.is_gone, what="the end of the worker")
    finally:
        running.kill()
        running.wait()
