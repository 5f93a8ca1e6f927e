"""The Python client beside plain HTTP: the same warm calls through ClusterExecutor.map, Cluster.map and one POST."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from measure import Api, Processes, report, spread

from retirecluster.client import Cluster, TaskOptions
from retirecluster.client.options import task_document

WARM = TaskOptions(mode="warm", retries=0)
CHUNK = 50


def by_http(api: Api, count: int) -> None:
    """Submit as one array, and wait until the main says that all have ended; results are not read."""
    api.request("POST", "tasks", [task_document(abs, (-number,), {}, WARM) for number in range(count)])
    api.wait_all_ended()


def by_executor(executor: Executor, count: int, chunksize: int) -> None:
    """All values, in order."""
    values = list(executor.map(abs, range(-count, 0), chunksize=chunksize))
    assert values == list(range(count, 0, -1))


def by_cluster(cluster: Cluster, count: int) -> None:
    """All values, in order."""
    values = list(cluster.with_options(mode="warm").map(abs, range(-count, 0)))
    assert values == list(range(count, 0, -1))


def rate(count: int, act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000)
    options = parser.parse_args()
    count = options.tasks
    with Processes() as processes:
        _, worker_port, web_port = processes.start_main()
        for number in (1, 2):
            processes.start_worker(f"worker-{number}", worker_port, "--slots", "1")
        api = Api(web_port, processes.folder)
        api.wait_slots(2)
        token = (processes.folder / "main" / "admin.token").read_text()
        rates: dict[str, list[float]] = {}
        with Cluster(f"127.0.0.1:{web_port}", token) as cluster, cluster.executor(retries=0) as executor:
            ways: dict[str, Callable[[], None]] = {
                "plain HTTP": lambda: by_http(api, count),
                "ClusterExecutor.map": lambda: by_executor(executor, count, 1),
                "Cluster.map": lambda: by_cluster(cluster, count),
                f"ClusterExecutor.map, chunksize={CHUNK}": lambda: by_executor(executor, count, CHUNK),
            }
            by_http(api, 100)
            for _ in range(options.runs):
                for name, act in ways.items():
                    rates.setdefault(name, []).append(rate(count, act))
    for name, found in rates.items():
        ratio = [one / plain for one, plain in zip(found, rates["plain HTTP"], strict=True)]
        report(name, calls=count, calls_per_s=spread(found), of_plain_http=spread(ratio, 2))


if __name__ == "__main__":
    main()
