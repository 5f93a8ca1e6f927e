"""A main and two workers of one slot each: batches, round trips, commands, durable submits."""

from __future__ import annotations

import argparse
import time

from measure import Api, Processes, cpu_s, percentile, report, rss_kib, spread

NO_OP = {"task_type": "python_eval", "payload": {"expression": "1 + 1"}}
COMMAND = {"task_type": "command", "payload": {"argv": ["true"]}}


def batch(api: Api, document: dict[str, object], count: int) -> tuple[float, float]:
    """(seconds until all are acknowledged, seconds until all have ended)."""
    began = time.perf_counter()
    api.request("POST", "tasks", [document] * count)
    acknowledged = time.perf_counter() - began
    api.wait_all_ended()
    return acknowledged, time.perf_counter() - began


def round_trips(api: Api, count: int) -> list[float]:
    """Milliseconds from the submit to the result being known."""
    times = []
    for _ in range(count):
        began = time.perf_counter()
        task_id = api.request("POST", "tasks", NO_OP)["task_id"]
        ended = api.request("GET", f"tasks/{task_id}?wait=30")
        times.append((time.perf_counter() - began) * 1000)
        assert ended["status"] == "completed", ended
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=5000)
    options = parser.parse_args()
    with Processes() as processes:
        main_process, worker_port, web_port = processes.start_main()
        workers = [processes.start_worker(f"worker-{n}", worker_port, "--slots", "1") for n in (1, 2)]
        api = Api(web_port, processes.folder)
        api.wait_slots(2)
        batch(api, NO_OP, 200)
        report("rss_mib", main=rss_kib(main_process.pid) // 1024, worker=rss_kib(workers[0].pid) // 1024)
        for name, document, count in (("no-op python_eval", NO_OP, options.tasks), ("command true", COMMAND, 1000)):
            rates, acks, cpu_us, commits = [], [], [], []
            for _ in range(options.runs):
                cpu, before = cpu_s(main_process.pid), api.request("GET", "cluster/status")["commits"]
                acknowledged, seconds = batch(api, document, count)
                cpu_us.append((cpu_s(main_process.pid) - cpu) / count * 1e6)
                commits.append((api.request("GET", "cluster/status")["commits"] - before) / count)
                rates.append(count / seconds)
                acks.append(acknowledged)
            report(
                name,
                count=count,
                tasks_per_s=spread(rates),
                submit_s=spread(acks, 3),
                main_cpu_us_per_task=spread(cpu_us),
                commits_per_task=spread(commits, 3),
            )
        p50, p99 = [], []
        for _ in range(options.runs):
            times = round_trips(api, 300)
            p50.append(percentile(times, 50))
            p99.append(percentile(times, 99))
        report("round trip", p50_ms=spread(p50, 2), p99_ms=spread(p99, 2))
        rates = []
        for _ in range(options.runs):
            began = time.perf_counter()
            for _ in range(1000):
                api.request("POST", "tasks", {"task_type": "echo", "requirements": {"gpu": True}})
            rates.append(1000 / (time.perf_counter() - began))
        report("durable single submits, one client", submits_per_s=spread(rates))


if __name__ == "__main__":
    main()
