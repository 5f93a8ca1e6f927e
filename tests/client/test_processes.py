"""Child processes: stopped in order, killed if need be, gone when their starter is gone."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from retirecluster.client.local import LocalCluster, WorkerProfile, free_port
from retirecluster.client.processes import Child, start_child, stop_children
from retirecluster.client.twistd import twistd
from retirecluster.domain.errors import ClusterError
from tests.support import pause

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)
WILLING = "import time; print('ready', flush=True); time.sleep(60)"


async def started(tmp_path: Path, code: str) -> Child:
    child = start_child("a child", [sys.executable, "-c", code], tmp_path / "logs" / "child.log", os.environ)
    for _ in range(500):
        if child.tail(1) == ["ready"]:
            return child
        await pause(0.02)
    raise AssertionError(child.how_it_ended())


@ensureDeferred
async def test_a_child_is_asked_first_and_killed_if_it_does_not_listen(tmp_path: Path) -> None:
    willing = await started(tmp_path / "1", WILLING)
    assert await stop_children(reactor, [willing], 10) == []
    assert willing.exit_code == -signal.SIGTERM
    stubborn = await started(tmp_path / "2", STUBBORN)
    assert await stop_children(reactor, [stubborn], 0.2) == [stubborn]
    assert stubborn.exit_code == -signal.SIGKILL
    assert "signal 9" in stubborn.how_it_ended() and "ready" in stubborn.how_it_ended()
    assert await stop_children(reactor, [stubborn], 1) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the leash is Linux's PR_SET_PDEATHSIG")
def test_children_do_not_outlive_a_killed_starter(tmp_path: Path) -> None:
    code = textwrap.dedent(f"""
        import os, sys, time
        from pathlib import Path
        from retirecluster.client.processes import start_child
        child = start_child("x", [sys.executable, "-c", {WILLING!r}], Path({str(tmp_path)!r}, "log"), os.environ)
        while not child.tail(1):
            time.sleep(0.02)
        print(child.process.pid, flush=True)
        time.sleep(60)
    """)
    starter = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.communicate()
    until = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_port_that_is_taken_is_replaced_by_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)
    assert free_port(port) == port
    with pytest.raises(OSError):
        free_port(0, "192.0.2.1")


def test_twistd_is_found() -> None:
    done = subprocess.run([*twistd(), "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert "Twisted" in done.stdout


@ensureDeferred
async def test_a_main_that_ends_at_once_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "logs").write_text("a file where a folder should be")
    cluster = LocalCluster(reactor, folder, [], os.environ, say=print, port=free_port(0), web_port=free_port(0))
    with pytest.raises(OSError):
        await cluster.start()
    await cluster.stop()
    cluster = LocalCluster(reactor, tmp_path / "other", [], os.environ, say=print, port=-1, web_port=free_port(0))
    with pytest.raises(ClusterError) as caught:
        await cluster.start()
    assert "ended" in caught.value.message and "main.log" in caught.value.message
    await cluster.stop()


def test_a_profile_becomes_options() -> None:
    profile = WorkerProfile("phone", "mobile", 2, ("a", "b"), "android", 1.5)
    assert " ".join(profile.options()) == (
        "--device-id phone --slots 2 --role mobile --platform android --memory-gb 1.5 --tag a --tag b"
    )
    assert WorkerProfile("pi").options() == ["--device-id", "pi", "--slots", "1"]
