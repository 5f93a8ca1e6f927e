"""The network breaks in every way it can: what runs goes on, or runs elsewhere, and only one result counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.checker import AT_LEAST_ONCE, AT_MOST_ONCE, Checker, Client, Marks, Run
from tests.integration.cluster import RealCluster, eventually
from tests.integration.networks import Islands, SlowProxy, why_not

pytestmark = pytest.mark.integration
WORKERS = ("one", "two")
LEASE_S = 3.0
SETTINGS = {
    "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.3",
    "RETIRE_CLUSTER_OFFLINE_AFTER_S": f"{LEASE_S}",
    "RETIRE_CLUSTER_LEASE_S": f"{LEASE_S}",
    "RETIRE_CLUSTER_DRAIN_S": "0.1",
    "RETIRE_CLUSTER_SLOTS": "4",
}


@pytest.fixture(scope="module")
def possible() -> None:
    reason = why_not()
    if reason:
        print(f"skipped: {reason}")
        pytest.skip(reason)


@pytest.fixture
def islands(possible: None, tmp_path: Path) -> Iterator[Islands]:
    """A main that runs, with worker one; each in a namespace of its own."""
    made = Islands(tmp_path, WORKERS)
    made.environ = SETTINGS
    try:
        made.build()
        made.start_main()
        made.start_worker("one")
        made.wait_online("one")
        yield made
    finally:
        made.remove()
    made.assert_no_tracebacks()


@pytest.fixture
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    name = "islands" if "islands" in request.fixturenames else "cluster"
    return Client(request.getfixturevalue(name), Marks(tmp_path / "marks"))


def runs_of(client: Client, count: int) -> list[Run]:
    """The runs so far, once there are that many."""
    return eventually(lambda: len(runs := client.marks.runs()) >= count and runs, what=f"{count} starts")


def final(client: Client) -> list[dict[str, Any]]:
    return [client.cluster.get(f"tasks/{ids[0]}") for ids in client.answers.values()]


def test_a_link_that_is_down_for_less_than_the_lease(islands: Islands, client: Client) -> None:
    client.submit(1, 3.0)
    client.submit(1, 3.0, on_disconnect="stop")
    client.submit(1, 3.0, delivery=AT_MOST_ONCE)
    runs_of(client, 3)
    islands.unplug("one")
    time.sleep(0.4)
    islands.plug("one")
    counts = Checker(client).check(["one"])
    assert (counts["starts"], counts["epochs"], counts["lost"]) == (3, 3, 0)


def test_a_link_that_is_down_for_longer_than_the_lease(islands: Islands, client: Client) -> None:
    client.submit(1, 8.0)
    client.submit(1, 8.0, on_disconnect="stop")
    client.submit(1, 8.0, delivery=AT_MOST_ONCE)
    first = runs_of(client, 3)
    islands.start_worker("two")
    islands.wait_online("two")
    islands.unplug("one")
    broken_s = time.monotonic()
    second = runs_of(client, 5)[3:]
    assert {run.device_id for run in second} == {"two"}
    assert all(run.began_s - broken_s > LEASE_S - 0.6 for run in second), "not before the lease is over"
    eventually(lambda: time.monotonic() > first[0].began_s + 8.5, what="the end of the run that nobody hears of")
    islands.plug("one")
    islands.wait_online("one")
    counts = Checker(client).check(["one", "two"])
    assert [task["status"] for task in final(client)] == ["completed", "completed", "lost"]
    assert counts["starts"] == 5 and counts["epochs"] == 5
    ran_on = {run.task_id for run in client.marks.runs() if run.device_id == "one" and run.ended_s is not None}
    keep, _, once = (task["task_id"] for task in final(client))
    assert ran_on == {keep, once}, "those that may go on alone went on; their late results were refused"


@pytest.mark.parametrize("lost", ["OUTPUT", "INPUT"])
def test_packets_are_lost_in_one_direction(islands: Islands, client: Client, lost: str) -> None:
    islands.start_worker("two")
    client.submit(1, 4.0)
    client.submit(1, 4.0, delivery=AT_MOST_ONCE)
    client.submit(1, 4.0, on_disconnect="stop")
    started = runs_of(client, 3)
    islands.lose("one", lost)
    time.sleep(1.0)
    islands.lose_no_more("one", lost)
    counts = Checker(client).check(["one"])
    assert (counts["starts"], counts["epochs"], counts["lost"]) == (3, 3, 0), started


def test_each_packet_is_lost_with_some_probability(islands: Islands, client: Client) -> None:
    """TCP repeats what is lost, each time later: words arrive in bursts, and some only after the lease is over."""
    islands.start_worker("two")
    islands.wait_online("one", "two")
    ways = [("one", "INPUT"), ("one", "OUTPUT"), ("two", "INPUT"), ("two", "OUTPUT")]
    for name, chain in ways:
        islands.lose(name, chain, 0.2)
    for number in range(12):
        client.submit(1, 0.5, delivery=(AT_LEAST_ONCE, AT_MOST_ONCE)[number % 2], on_disconnect="stop")
    runs_of(client, 8)
    for name, chain in ways:
        islands.lose_no_more(name, chain, 0.2)
    islands.wait_online("one", "two")
    Checker(client).check(["one", "two"])
    assert {task["status"] for task in final(client)} <= {"completed", "lost"}
    assert sum(task["status"] == "completed" for task in final(client)) >= 6, "what may run again did"


def test_a_worker_dies_while_it_cannot_be_reached(islands: Islands, client: Client) -> None:
    client.submit(1, 6.0)
    client.submit(1, 6.0, delivery=AT_MOST_ONCE)
    runs_of(client, 2)
    islands.start_worker("two")
    islands.wait_online("two")
    islands.unplug("one")
    islands.kill("one")
    killed_s = time.monotonic()
    again = runs_of(client, 3)[2]
    assert again.device_id == "two" and again.began_s - killed_s > LEASE_S - 0.6
    islands.plug("one")
    islands.start_worker("one")
    islands.wait_online("one")
    counts = Checker(client).check(["one", "two"])
    assert [task["status"] for task in final(client)] == ["completed", "lost"] and counts["starts"] == 3


def test_a_slow_line_that_stalls(cluster: RealCluster, client: Client) -> None:
    cluster.environ = SETTINGS
    cluster.start_main()
    proxy = SlowProxy(cluster.worker_port, delay_s=0.05, stall_s=0.25, stalls=0.1)
    try:
        direct, cluster.worker_port = cluster.worker_port, proxy.port
        for name in WORKERS:
            cluster.start_worker(name)
        cluster.worker_port = direct
        cluster.wait_online(*WORKERS)
        for number in range(24):
            client.submit(1, 0.1, delivery=(AT_LEAST_ONCE, AT_MOST_ONCE)[number % 2], on_disconnect="stop")
        counts = Checker(client).check(WORKERS)
        assert counts["lost"] == 0
        cluster.kill("one")
        cluster.kill("two")
    finally:
        proxy.close()


def test_a_proxy_that_is_killed(cluster: RealCluster, client: Client) -> None:
    cluster.environ = SETTINGS
    cluster.start_main()
    proxy = SlowProxy(cluster.worker_port)
    try:
        direct, cluster.worker_port = cluster.worker_port, proxy.port
        cluster.start_worker("one")
        cluster.worker_port = direct
        cluster.start_worker("two")
        cluster.wait_online(*WORKERS)
        for delivery in (AT_LEAST_ONCE, AT_MOST_ONCE):
            client.submit(2, 2.0, delivery=delivery)
            client.submit(2, 2.0, delivery=delivery, on_disconnect="stop")
        runs_of(client, 8)
        proxy.kill()
        time.sleep(0.3)
        proxy.start()
        counts = Checker(client).check(WORKERS)
        # To the main it looked as if the worker had been killed: what may run twice did, and one result counts.
        assert counts["lost"] == 0 and counts["starts"] <= 8 + 2
        cluster.kill("one")
    finally:
        proxy.close()
