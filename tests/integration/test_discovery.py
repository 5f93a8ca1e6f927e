"""`--join auto` over a network of its own: real processes in namespaces, and a main whose address changes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import TWISTD, RealCluster, eventually
from tests.integration.networks import Islands, why_not

pytestmark = pytest.mark.integration
FAST = {
    "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.5",
    "RETIRE_CLUSTER_OFFLINE_AFTER_S": "3",
    "RETIRE_CLUSTER_LEASE_S": "3",
}


class Lan(Islands):
    """A main that listens everywhere, and workers that know no address."""

    def build(self) -> None:
        super().build()
        self.host = "127.0.0.1"  # for requests, which are made in the main's own namespace
        self.environ = FAST

    def start_main(self, *options: str, **rest: object) -> None:
        RealCluster.start_main(self, "--host", "0.0.0.0", "--trusted-network", *options)

    def start_worker(self, name: str, *options: str, **rest: object) -> None:
        super().start_worker(name, "--join", "auto", *options)

    def test_of(self, name: str) -> subprocess.CompletedProcess[str]:
        """`twistd retire-worker --join auto --test` on a worker's device."""
        folder = str(self.folder / f"{name}-test")
        command = [*self.prefix(name), *TWISTD, "-n", "--pidfile=", f"--logfile={folder}.txt", "retire-worker"]
        options = ["--join", "auto", "--data-dir", folder, "--test"]
        return subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def lan(tmp_path: Path) -> Iterator[Lan]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    one = Lan(tmp_path, ("w1",))
    try:
        one.build()
        yield one
    finally:
        one.remove()


def test_a_device_finds_its_main_and_finds_it_again_where_it_has_moved(lan: Lan) -> None:
    nobody = lan.test_of("w1")
    assert nobody.returncode == 4
    assert "no main was heard on this network" in nobody.stderr
    assert "--join HOST:PORT" in nobody.stderr
    lan.start_main()
    heard = lan.test_of("w1")
    assert heard.returncode == 0, heard.stderr
    assert "at 10.77.1.1:8080; nobody vouches for it" in heard.stdout
    lan.start_worker("w1")
    lan.wait_online("w1")
    kept = lan.folder / "w1" / "cluster.json"
    eventually(kept.exists, what="written down: the main knows a moment before the device does")
    cluster_id = lan.get("cluster/status")["cluster_id"]
    assert json.loads(kept.read_text()) == {"cluster_id": cluster_id, "address": "10.77.1.1:8080"}
    lan.ip("main", "address", "del", "10.77.1.1/24", "dev", "to-w1")
    lan.ip("main", "address", "add", "10.77.1.50/24", "dev", "to-w1")
    eventually(lambda: "10.77.1.50" in kept.read_text(), 90, "joining at the new address")
    lan.wait_online("w1")
    assert lan.ended(lan.submit({"task_type": "echo", "payload": {"message": "moved"}})[0])["status"] == "completed"
    lan.assert_no_tracebacks()


def test_of_two_clusters_none_is_chosen(lan: Lan) -> None:
    """A second main, on the device itself: which one is meant has to be said."""
    lan.start_main()
    second = [*TWISTD, "-n", "--pidfile=", "retire-main", "--data-dir", str(lan.folder / "second"), "--host", "0.0.0.0"]
    with (lan.folder / "second.log").open("wb") as log:
        lan.processes["second"] = subprocess.Popen(
            [*lan.prefix("w1"), *second, "--trusted-network"], stdout=log, stderr=log, cwd=lan.folder
        )
    eventually(lambda: b"beacon:" in (lan.folder / "second.log").read_bytes(), what="the second main")

    def both_are_told() -> bool:
        tested = lan.test_of("w1")
        assert tested.returncode != 0, tested.stdout
        return "several clusters were heard" in tested.stderr and "10.77.1.1:8080" in tested.stderr

    eventually(both_are_told, 60, "two clusters")
