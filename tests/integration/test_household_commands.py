"""`cluster quiet`, `devices borrow`, `signals`, `devices stats`: the program that people type, a main and a worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.cluster import RealCluster, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def real(cluster: RealCluster) -> RealCluster:
    cluster.start_main()
    cluster.start_worker("tv-box")
    cluster.wait_online("tv-box")
    return cluster


def say(cluster: RealCluster, *words: str) -> str:
    """What the program prints; it must end well."""
    server = ["--server", f"http://127.0.0.1:{cluster.web_port}", "--data-dir", str(cluster.folder / "main")]
    done = subprocess.run(
        [sys.executable, "-c", "from retirecluster.client.cli import main; raise SystemExit(main())", *server, *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_household_types(real: RealCluster) -> None:
    assert "the cluster is quiet for 2h, until" in say(real, "cluster", "quiet", "2h", "--running", "suspend")
    eventually(lambda: real.devices()["tv-box"] == "paused", what="quiet")
    assert "paused: the cluster is quiet" in say(real, "devices", "show", "tv-box")
    assert say(real, "cluster", "quiet", "off") == "the quiet is over\n"
    assert "borrowed by its owner for 3h, until" in say(real, "devices", "borrow", "tv", "3h", "--reason", "film")
    assert "film" in say(real, "devices", "list", "--wide", "--format", "csv")
    say(real, "devices", "give-back", "tv-box")
    eventually(lambda: real.devices()["tv-box"] == "online", what="given back")
    assert say(real, "signals", "set", "tariff", "0.31", "--ttl", "30m") == "tariff  0.31  for 30m\n"
    assert "tariff" in say(real, "signals")
    assert say(real, "signals", "remove", "tariff") == "tariff  removed\n"
    assert "cpu_usage" not in say(real, "devices", "stats", "tv-box", "--window", "30m")
    shown = say(real, "devices", "show", "tv-box")
    assert "[/proc/meminfo]" in shown or "cpu cores" in shown
