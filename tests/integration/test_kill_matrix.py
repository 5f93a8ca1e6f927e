"""Every failpoint, with both kinds of delivery: a process dies there, comes back, and nothing is lost or run twice."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from retirecluster.domain import failpoints
from retirecluster.domain.failpoints import FAILPOINTS, VARIABLE
from tests.integration.checker import AT_LEAST_ONCE, AT_MOST_ONCE, Checker, Client, Marks
from tests.integration.cluster import HttpProblem, RealCluster, eventually

pytestmark = pytest.mark.integration
SETTINGS = {
    "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.5",
    "RETIRE_CLUSTER_OFFLINE_AFTER_S": "2",
    "RETIRE_CLUSTER_LEASE_S": "2",
    "RETIRE_CLUSTER_DRAIN_S": "0.1",
    "RETIRE_CLUSTER_SLOTS": "2",
}
WORKERS = ("one", "two")


class Stage:
    """A small cluster under load. One process after the other dies at a failpoint and comes back."""

    def __init__(self, cluster: RealCluster) -> None:
        cluster.environ = SETTINGS
        cluster.choose_ports()
        self.cluster = cluster
        self.marks = Marks(cluster.folder / "marks")
        self.clients: list[Client] = []
        self.sound = True

    def play(self, name: str, nth: int, delivery: str, tasks: int = 6) -> dict[str, int]:
        """Let the process that has this failpoint die there under load, restart it, and check everything."""
        client = Client(self.cluster, self.marks, f"{len(self.clients)}-")
        self.clients.append(client)
        self.sound = False
        victim = "main" if FAILPOINTS[name].daemon == "main" else "one"
        self._start_armed(victim, {VARIABLE: f"{name}:{nth}"})
        if name != failpoints.MIGRATING:
            self._load(client, tasks, delivery, name)
        self._wait_for_death(victim)
        if victim == "main":
            self.cluster.start_main()
        else:
            self.cluster.start_worker(victim)
        client.submit(2, delivery=delivery)
        client.repeat()
        counts = Checker(client).check(WORKERS)
        self.sound = True
        return counts

    def look_back(self) -> None:
        """What has ended was not changed by anything that came later."""
        for client in self.clients:
            Checker(client).check(WORKERS)
        # Others than ours are probes, which the main gives to devices that died on different tasks.
        tasks = self.cluster.get("tasks?limit=500")["tasks"]
        known = sum(task["task_type"] == "python_script" for task in tasks)
        assert known == sum(len(client.documents) for client in self.clients), "I10: more tasks than keys"

    def _start_armed(self, victim: str, armed: dict[str, str]) -> None:
        processes = self.cluster.processes
        if victim in processes:
            self.cluster.kill(victim)
        if "main" not in processes:
            self.cluster.launch_main(environ=armed if victim == "main" else None)
        for worker in WORKERS:
            if worker not in processes:
                self.cluster.start_worker(worker, environ=armed if worker == victim else None)

    def _load(self, client: Client, tasks: int, delivery: str, name: str) -> None:
        """Tasks of which some stop without the main; to get to the failpoint, worker one is told to end while it runs
        some, or they leave files."""
        stop = name == failpoints.STOPPING
        files = {"files": {"outputs": ["epoch.txt"]}} if name == failpoints.AFTER_UPLOAD else {}
        eventually(lambda: self._victim_died() or self._online() == set(WORKERS), what="both workers")
        seconds = 1.0 if stop else 0.1
        for number in range(tasks):
            client.submit(1, seconds, delivery=delivery, on_disconnect=("keep", "stop")[number % 2], **files)
        if stop:
            ids = {each for answers in client.answers.values() for each in answers}
            runs = self.marks.runs
            eventually(lambda: any((run.device_id, run.task_id in ids) == ("one", True) for run in runs()))
            self.cluster.processes["one"].send_signal(signal.SIGTERM)

    def _victim_died(self) -> bool:
        return any(process.poll() is not None for process in self.cluster.processes.values())

    def _online(self) -> set[str]:
        try:
            return {name for name, status in self.cluster.devices().items() if status == "online"}
        except (OSError, http.client.HTTPException, HttpProblem):
            return set()

    def _wait_for_death(self, victim: str) -> None:
        assert self.cluster.processes[victim].wait(20) == -signal.SIGKILL
        del self.cluster.processes[victim]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stage]]:
    """The one stage of all tests here; empty where it has to be built anew."""
    built: list[Stage] = []
    yield built
    for stage in built:
        stage.cluster.stop()
        stage.cluster.assert_no_tracebacks()


@pytest.fixture
def stage(stages: list[Stage], tmp_path: Path) -> Iterator[Stage]:
    """The stage as the last test left it: whoever comes on has a past of crashes."""
    if not stages:
        stages.append(Stage(RealCluster(tmp_path)))
    try:
        yield stages[0]
    finally:
        played = stages[0]
        if not played.sound:
            stages.clear()
            played.cluster.stop()


@pytest.fixture
def fresh_stage(cluster: RealCluster) -> Stage:
    """A stage with no past."""
    return Stage(cluster)


@pytest.mark.parametrize("delivery", [AT_LEAST_ONCE, AT_MOST_ONCE])
@pytest.mark.parametrize("name", [name for name in FAILPOINTS if name != failpoints.MIGRATING])
def test_whoever_dies_there_nothing_is_lost_and_nothing_runs_twice(stage: Stage, name: str, delivery: str) -> None:
    # The first turns are the registrations of the workers.
    stage.play(name, 4 if name == failpoints.AFTER_DECIDE else 1, delivery)


def test_what_has_ended_stays_as_it_is(stage: Stage) -> None:
    stage.look_back()


@pytest.mark.parametrize("delivery", [AT_LEAST_ONCE, AT_MOST_ONCE])
def test_a_first_start_may_be_cut_short(fresh_stage: Stage, delivery: str) -> None:
    fresh_stage.play(failpoints.MIGRATING, 1, delivery)


@pytest.mark.slow
@pytest.mark.parametrize("nth", [1, 2, 3, 5])
@pytest.mark.parametrize("delivery", [AT_LEAST_ONCE, AT_MOST_ONCE])
@pytest.mark.parametrize(
    "name", [name for name in FAILPOINTS if name not in (failpoints.MIGRATING, failpoints.STOPPING)]
)
def test_at_later_passes_too(fresh_stage: Stage, name: str, delivery: str, nth: int) -> None:
    fresh_stage.play(name, nth, delivery, tasks=24)


def test_a_name_that_is_not_known_is_one_line(cluster: RealCluster, tmp_path: Path) -> None:
    log = cluster.launch_main(environ={VARIABLE: "nowhere"})
    assert cluster.processes.pop("main").wait(20) == 2
    assert log.read_text().count("\n") == 1 and "after-decide-before-commit" in log.read_text()
