"""`--join auto` over a network of its own: real processes in namespaces, and a main whose address changes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import TWISTD, RealCluster, eventually
from tests.integration.networks import Islands, run, why_not

pytestmark = pytest.mark.integration
FAST = {
    "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.5",
    "RETIRE_CLUSTER_OFFLINE_AFTER_S": "3",
    "RETIRE_CLUSTER_LEASE_S": "3",
}


PROGRAM = "import sys; from retirecluster.client.cli import main; sys.exit(main())"
STRANGER = """
import socket, sys, threading, time
from retirecluster.wire.beacon import GROUP, PORT, Announcement, write_announcement
cluster_id, address = sys.argv[1:]
trap = socket.create_server((address, 9999))
said = write_announcement(Announcement(cluster_id, "stranger", address, 9999, 5000))
def flood():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        while True:
            out.sendto(said, (GROUP, PORT))
            time.sleep(0.004)
def answer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ear.bind(("", PORT))
        member = socket.inet_aton(GROUP) + socket.inet_aton(address)
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        while True:
            data, whose = ear.recvfrom(2000)
            if b'"question"' in data:
                ear.sendto(said, whose)
for each in (flood, answer):
    threading.Thread(target=each, daemon=True).start()
while True:
    peer, _ = trap.accept()
    peer.close()
    print("caught", flush=True)
"""
"""Says all the time that it is the main of a cluster, answers who asks, and closes what connects to it."""


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

    def join(self, name: str, address: str) -> None:
        """`retire-cluster join ADDRESS --foreground` on a worker's device; its words and the worker's are one log."""
        options = ["--foreground", "--name", name, "--data-dir", str(self.folder / name)]
        with (self.folder / f"{name}-0.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [*self.prefix(name), sys.executable, "-c", PROGRAM, "join", address, *options], stdout=log, stderr=log
            )

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
    assert "instead of auto: HOST:PORT" in nobody.stderr
    lan.start_main()
    lan.join("w1", "auto")
    lan.wait_online("w1")
    assert "at 10.77.1.1:8080; nobody vouches for it" in lan.logs("w1")
    assert lan.logs("w1").count("heard of") == 1, "the worker keeps to the main that join has found"
    kept = lan.folder / "w1" / "cluster.json"
    cluster_id = lan.get("cluster/status")["cluster_id"]
    assert json.loads(kept.read_text()) == {"cluster_id": cluster_id, "address": "10.77.1.1:8080"}
    lan.ip("main", "address", "del", "10.77.1.1/24", "dev", "to-w1")
    lan.ip("main", "address", "add", "10.77.1.50/24", "dev", "to-w1")
    # That nobody has the old address any more is known at once, and not when the neighbour is forgotten.
    run(*lan.prefix("w1"), "sysctl", "-w", "net.ipv4.neigh.up0.retrans_time_ms=100")
    lan.ip("w1", "neighbour", "flush", "dev", "up0")
    eventually(lambda: "10.77.1.50" in kept.read_text(), 90, "joining at the new address")
    lan.wait_online("w1")
    assert lan.ended(lan.submit({"task_type": "echo", "payload": {"message": "moved"}})[0])["status"] == "completed"
    lan.assert_no_tracebacks()


def test_a_stranger_keeps_no_device_from_the_address_that_it_knows(lan: Lan) -> None:
    """Announcements with the right id all the time, of an address that accepts connections and closes them."""
    lan.start_main()
    lan.start_worker("w1")
    lan.wait_online("w1")
    kept = lan.folder / "w1" / "cluster.json"
    eventually(kept.exists, what="knowing the address: the main knows a moment before the device does")
    stranger = [sys.executable, "-c", STRANGER, lan.get("cluster/status")["cluster_id"], "10.77.1.2"]
    caught = lan.folder / "stranger.txt"
    with caught.open("wb") as log:
        lan.processes["stranger"] = subprocess.Popen([*lan.prefix("w1"), *stranger], stdout=log, stderr=log)
    lan.kill("main")
    eventually(lambda: caught.read_text().count("caught") >= 2, what="being caught")
    lan.start_main()
    before = caught.read_text().count("caught")
    lan.wait_online("w1")
    assert caught.read_text().count("caught") - before <= 2, "every other try is at the known address"
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
        lan.join("w1", "auto")
        assert lan.processes.pop("w1").wait(60) == 5
        return "several clusters were heard" in lan.logs("w1")

    eventually(both_are_told, 60, "two clusters")
    assert "at 10.77.1.1:8080" in lan.logs("w1")
    assert re.search(r"; name an address instead of auto: [0-9.]+:8080; nothing was written", lan.logs("w1"))
    lan.join("w1", "10.77.1.1")  # the port is the usual one
    lan.wait_online("w1")
