"""Many rounds of crashes over one long-lived data folder under load: what is lost, run again, thrown away.

Each round kills the main or a worker, at a random moment or at a random failpoint, and starts it again. The documented
run is `python bench/kill_rounds.py --rounds 1000`. Prints one JSON line; ends with status 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

from measure import percentile, report

sys.path.insert(0, str(Path(__file__).parents[1]))

from retirecluster.domain import failpoints
from retirecluster.domain.failpoints import FAILPOINTS, VARIABLE
from tests.integration.checker import AT_LEAST_ONCE, AT_MOST_ONCE, FINAL, Checker, Client, Marks, Run
from tests.integration.cluster import HttpProblem, RealCluster

WORKERS = ("one", "two", "three")
SETTINGS = {
    "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.5",
    "RETIRE_CLUSTER_OFFLINE_AFTER_S": "3",
    "RETIRE_CLUSTER_LEASE_S": "3",
    "RETIRE_CLUSTER_DRAIN_S": "0.2",
    "RETIRE_CLUSTER_SLOTS": "2",
}
OUTSTANDING = 16
DIES_WITHIN_S = 3.0


class Feeder(threading.Thread):
    """Keeps tasks of every kind coming; what is not acknowledged is sent again under the same key."""

    def __init__(self, client: Client, random: Random) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.random = random
        self.ending = threading.Event()

    def run(self) -> None:
        unheard: list[str] = []
        while not self.ending.is_set() or unheard:
            unheard = [key for key in unheard if not self.client.send([key])]
            if not self.ending.is_set() and not unheard and self._room():
                before = len(self.client.documents)
                self.client.submit(
                    2,
                    round(self.random.uniform(0.05, 1.0), 3),
                    delivery=self.random.choice((AT_LEAST_ONCE, AT_LEAST_ONCE, AT_MOST_ONCE)),
                    on_disconnect=self.random.choice(("keep", "keep", "stop")),
                    max_retries=20,
                )
                keys = list(self.client.documents)[before:]
                unheard = [key for key in keys if key not in self.client.answers]
            else:
                time.sleep(0.02)

    def _room(self) -> bool:
        try:
            counts = self.client.cluster.counts()
        except (OSError, HttpProblem, ValueError):
            return False
        return sum(count for state, count in counts.items() if state not in FINAL) < OUTSTANDING


class Rounds:
    """Kills, and what was seen at each."""

    def __init__(self, cluster: RealCluster, marks: Marks, random: Random) -> None:
        self.cluster = cluster
        self.marks = marks
        self.random = random
        self.serve_s: list[float] = []
        self.kills: dict[str, int] = {}
        self.deaths_of_workers: list[tuple[str, float]] = []
        """Which, and when, in monotonic seconds."""
        self.ran_through: list[Run] = []

    def round(self) -> None:
        """One crash: half of them of the main, half of them at a failpoint."""
        victim = self.random.choice(("main", "main", "main", *WORKERS))
        time.sleep(self.random.uniform(0.1, 0.8))
        self._kill(victim, "any moment")
        if self.random.random() < 0.5:
            self._start(victim)
            return
        daemon = "main" if victim == "main" else "worker"
        names = [
            each.name for each in FAILPOINTS.values() if each.daemon == daemon and each.name != failpoints.MIGRATING
        ]
        name = self.random.choice(names)
        self._start(victim, {VARIABLE: f"{name}:{self.random.randrange(1, 9)}"})
        if name == failpoints.STOPPING:
            time.sleep(0.5)
            self.cluster.processes[victim].send_signal(signal.SIGTERM)
        self._wait(victim, name)
        self._start(victim)

    def _kill(self, victim: str, where: str) -> None:
        running = self._running() if victim == "main" else []
        self.cluster.kill(victim)
        self._count(victim, where)
        self._note(running)

    def _wait(self, victim: str, name: str) -> None:
        """Until it dies at its failpoint; one that does not get there is killed anyway."""
        process = self.cluster.processes[victim]
        try:
            process.wait(DIES_WITHIN_S)
        except subprocess.TimeoutExpired:
            return self._kill(victim, "any moment")
        del self.cluster.processes[victim]
        self._count(victim, name)
        return None

    def _running(self) -> list[Run]:
        """Runs that go on now."""
        return [run for run in self.marks.runs()[-100:] if run.ended_s is None and _alive(run.pid)]

    def _note(self, running: list[Run]) -> None:
        self.ran_through += [run for run in running if _alive(run.pid)]

    def lost_its_worker(self, run: Run) -> bool:
        """Whether the run's worker was killed after it began and before its result can have been spooled.

        A death at a failpoint is noticed up to `DIES_WITHIN_S` late.
        """
        ended_s = run.ended_s or run.began_s
        return any(
            name == run.device_id and run.began_s <= at_s <= ended_s + DIES_WITHIN_S
            for name, at_s in self.deaths_of_workers
        )

    def _count(self, victim: str, where: str) -> None:
        if victim != "main":
            self.deaths_of_workers.append((victim, time.monotonic()))
        self.kills[where] = self.kills.get(where, 0) + 1

    def _start(self, victim: str, environ: dict[str, str] | None = None) -> None:
        if victim != "main":
            self.cluster.start_worker(victim, environ=environ)
            return
        began = time.monotonic()
        self.cluster.launch_main(environ=environ)
        while self.cluster.processes["main"].poll() is None:
            try:
                self.cluster.get("cluster/health")
            except (OSError, HttpProblem):
                time.sleep(0.005)
            else:
                self.serve_s.append(time.monotonic() - began)
                return


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def settle(cluster: RealCluster, client: Client, timeout_s: float) -> tuple[dict[str, dict[str, Any]], int]:
    """Every acknowledged task that has ended, by key, and how many a person had to release meanwhile."""
    end, released = time.monotonic() + timeout_s, 0
    while time.monotonic() < end:
        counts = cluster.counts()
        if not any(count for state, count in counts.items() if state not in FINAL):
            break
        for task in cluster.get("tasks?status=held&limit=100")["tasks"]:
            cluster.request("POST", f"tasks/{task['task_id']}/release", {})
            released += 1
        time.sleep(0.2)
    tasks = {}
    for key, ids in client.answers.items():
        try:
            tasks[key] = cluster.get(f"tasks/{ids[0]}")
        except HttpProblem as problem:
            print(f"{ids[0]}: {problem}", file=sys.stderr)
    return {key: task for key, task in tasks.items() if task["status"] in FINAL}, released


def figures(client: Client, rounds: Rounds, tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the run comes to."""
    runs = client.marks.runs()
    counted = {(task["task_id"], task["epoch"]) for task in tasks.values() if task["status"] == "completed"}
    ended = [run for run in runs if run.ended_s is not None]
    wasted = [run for run in ended if (run.task_id, run.epoch) not in counted]
    starts: dict[str, int] = {}
    for run in runs:
        starts[run.task_id] = starts.get(run.task_id, 0) + 1
    outcomes = {(t["task_id"], a["epoch"]): a["outcome"] for t in tasks.values() for a in t["attempts"]}
    # They ran through the restart, and their workers lived on: their result should count. Tasks that are to stop
    # when the main is away too long promise the opposite.
    keeps = {task["task_id"] for key, task in tasks.items() if client.documents[key]["on_disconnect"] == "keep"}
    to_the_end = {(run.task_id, run.epoch) for run in ended if run.task_id in keeps and not rounds.lost_its_worker(run)}
    through = [(run.task_id, run.epoch) for run in rounds.ran_through]
    through = [key for key in through if key in to_the_end]
    resumed = [key for key in through if outcomes.get(key) == "completed"]
    for key in set(through) - set(resumed):
        print(f"not resumed: {key}: {outcomes.get(key)}", file=sys.stderr)
    return {
        "tasks_acknowledged": len(client.answers),
        "tasks_lost": len(client.answers) - len(tasks),
        "ended": {state: sum(t["status"] == state for t in tasks.values()) for state in sorted(FINAL)},
        "starts_per_task": {
            "mean": round(statistics.mean(starts.values()), 3),
            "max": max(starts.values()),
        },
        "computation_s": round(sum(run.ended_s - run.began_s for run in ended if run.ended_s), 1),
        "finished_computation_thrown_away_s": round(sum(run.ended_s - run.began_s for run in wasted if run.ended_s), 1),
        "ran_through_restarts_of_the_main": len(through),
        "resumed_share": round(len(resumed) / max(1, len(through)), 4),
        "serves_again_s": {
            "median": round(statistics.median(rounds.serve_s), 2),
            "p99": round(percentile(rounds.serve_s, 99), 2),
            "max": round(max(rounds.serve_s), 2),
        },
        "kills": rounds.kills,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=1e9, help="end earlier, after so long")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    cluster, random = RealCluster(Path(tempfile.mkdtemp(prefix="kill-rounds-"))), Random(options.seed)
    cluster.environ = SETTINGS
    cluster.choose_ports()
    marks = Marks(cluster.folder / "marks")
    client, rounds = Client(cluster, marks), Rounds(cluster, marks, random)
    feeder = Feeder(client, Random(options.seed + 1))
    began, done = time.monotonic(), 0
    try:
        rounds._start("main")
        for worker in WORKERS:
            rounds._start(worker)
        cluster.wait_online(*WORKERS)
        feeder.start()
        while done < options.rounds and time.monotonic() - began < options.minutes * 60:
            rounds.round()
            done += 1
            if done % 25 == 0:
                print(f"{done} rounds, {len(client.answers)} tasks", file=sys.stderr, flush=True)
        feeder.ending.set()
        feeder.join(60)
        tasks, released = settle(cluster, client, 120)
        broken = Checker(client).broken(tasks, marks.runs())
        stale = sum(line.startswith("I3") for line in broken)
        seconds = round(time.monotonic() - began)
        summary = figures(client, rounds, tasks)
        report("kill rounds", rounds=done, seconds=seconds, stale_results_accepted=stale, **summary, released=released)
        for line in broken:
            print(line, file=sys.stderr)
        cluster.assert_no_tracebacks()
    finally:
        feeder.ending.set()
        cluster.stop()
        print(f"logs: {cluster.folder}", file=sys.stderr)
    return 1 if broken or summary["tasks_lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
