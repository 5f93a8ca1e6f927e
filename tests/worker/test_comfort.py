"""The owner's policy at work on a worker: what it is fed with, what it tells the main, and what it has the agent do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from retirecluster.wire.messages import MESSAGES
from retirecluster.worker.comfort_memory import ComfortMemory, Kept
from retirecluster.worker.cpu_share import CpuShare, allowed
from retirecluster.worker.low_disk import EVERY_S, LowDisk
from retirecluster.worker.policy import Comfort, readings_of
from retirecluster.worker.process_tree import threads_of

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=timezone.utc)


class FakeExecutor:
    suspended = False
    active = 0


class FakeAgent:
    """Notes what it is told; the real one is tested with real processes."""

    def __init__(self) -> None:
        self.executor = FakeExecutor()
        self.paused = ""
        self.done: list[Any] = []
        self.said: list[Mapping[str, Any]] = []

    def pause(self, reason: str, running: str) -> None:
        self.paused = reason
        self.done.append(("pause", running))

    def unpause(self) -> None:
        self.paused = ""
        self.done.append(("unpause",))

    def say_availability(self, data: Mapping[str, Any]) -> None:
        assert not MESSAGES["availability"].data.problems(dict(data))
        self.said.append(data)


class Worker:
    def __init__(self, **policy: Any) -> None:
        self.clock, self.agent, self.metrics, self.reads = Clock(), FakeAgent(), dict[str, Any](), 0
        self.shares: list[float | None] = []
        self.comfort = Comfort(
            self.clock,
            self.agent,
            policy,
            self.read,
            self.local,
            self.shares.append,
            10.0,  # type: ignore[arg-type]
        )

    async def read(self) -> Mapping[str, Any]:
        self.reads += 1
        return self.metrics

    def local(self, zone: str | None) -> datetime:
        if zone == "Nowhere/At_All":
            raise KeyError(zone)
        return NOON

    def sees(self, **metrics: Any) -> None:
        self.metrics = metrics
        self.clock.advance(10.0)

    def __enter__(self) -> Worker:
        self.comfort.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.comfort.stop()


def test_without_a_policy_nothing_is_read() -> None:
    with Worker() as worker:
        worker.clock.pump([10.0] * 100)
        assert (worker.reads, worker.agent.said) == (0, [])


def test_it_pauses_tells_and_works_again() -> None:
    with Worker(battery={"pause_below": 40, "resume_above": 60}, min_dwell_s=30, on_pause="suspend") as worker:
        worker.sees(battery={"level": 31, "charging": False})
        assert worker.agent.done == [("pause", "suspend")]
        assert worker.agent.said[0]["reason"] == "battery 31 % < 40 %, on battery"
        for level in range(30, 20, -1):
            worker.sees(battery={"level": level, "charging": False})
        assert len(worker.agent.said) == 2, "words that change are told now and then"
        assert worker.agent.paused == "battery 21 % < 40 %, on battery"
        for _ in range(4):
            worker.sees(battery={"level": 80, "charging": True})
        assert worker.agent.done[-1] == ("unpause",)
        last = worker.agent.said[-1]
        assert (last["state"], last["since_s"], last["untold"]) == ("available", 0.0, [])
        assert last["policy"] == [
            "battery: pause_below 40, resume_above 60", "min_dwell_s: 30", "on_pause: suspend"
        ]  # fmt: skip


def test_another_cause_is_told_at_once() -> None:
    """Words with other figures can wait; that nothing asks for the pause any more, or somebody else does, cannot."""
    with Worker(signals={"tariff": {"max": 0.2}}) as worker:
        worker.comfort.signalled({"tariff": {"value": 0.5, "ttl_s": 900.0}})
        told = len(worker.agent.said)
        worker.comfort.signalled({"tariff": {"value": 0.6, "ttl_s": 900.0}})
        assert len(worker.agent.said) == told and worker.agent.said[-1]["reason"] == "tariff 0.5 > 0.2"
        worker.comfort.signalled({})
        assert worker.agent.said[-1]["settling"] and worker.agent.said[-1]["reason"].endswith("has been so for 1m)")
        worker.comfort.rest({"for_s": 500.0, "running": "continue", "reason": "quiet"})
        assert worker.agent.said[-1]["reason"].startswith("quiet; tariff")
        worker.comfort.rest({"for_s": 0, "running": "continue"})
        assert "quiet" not in worker.agent.said[-1]["reason"]


def test_what_changed_while_it_registered_is_told_afterwards() -> None:
    with Worker(only_when_charging=True) as worker:
        assert worker.comfort.registering()["state"] == "available"
        worker.sees(battery={"level": 50, "charging": False})
        before = len(worker.agent.said)
        worker.comfort.welcomed({})
        assert len(worker.agent.said) == before + 1 and worker.agent.said[-1]["state"] == "paused"
        assert worker.comfort.registering()["state"] == "paused"
        worker.comfort.welcomed({})
        assert len(worker.agent.said) == before + 1


def test_the_clusters_defaults_and_the_owners_last_word() -> None:
    with Worker(battery={"pause_below": 5}) as worker:
        worker.metrics = {"battery": {"level": 50, "charging": False}, "metered": False}
        worker.comfort.welcomed({"policy": {"battery": {"pause_below": 90}, "metered": "deny", "max_cpu_share": 0.5}})
        worker.sees(battery={"level": 50, "charging": False}, metered=False)
        assert not worker.agent.paused
        worker.sees(battery={"level": 50, "charging": False}, metered=True)
        assert worker.agent.paused == "the network is metered"
        assert worker.shares == [None, 0.5]
        worker.comfort.welcomed({"policy": {"hours": ["nonsense"]}})  # a later version's, say
        worker.sees()
        assert worker.comfort._policy.rules[0].name == "battery"


def test_of_two_rests_the_stronger_word_holds_while_it_lasts() -> None:
    with Worker() as worker:
        quiet = {"for_s": 15.0, "running": "suspend", "reason": "quiet"}
        borrowed = {"for_s": 35.0, "running": "continue", "reason": "borrowed"}
        worker.comfort.rest(quiet | {"also": [borrowed]})
        said = worker.comfort.availability()
        assert (said["state"], said["reason"], said["running"]) == ("paused", "quiet; borrowed", "suspend")
        worker.clock.pump([10.0, 10.0])
        assert (worker.comfort.verdict.reason, worker.comfort.verdict.running) == ("borrowed", "continue")
        worker.clock.pump([10.0, 10.0])
        assert not worker.comfort.verdict.paused


def test_it_tells_how_long_tasks_have_stood_still() -> None:
    with Worker() as worker:
        worker.comfort.rest({"for_s": 500.0, "running": "continue", "reason": "borrowed"})
        assert "still_s" not in worker.comfort.availability()
        worker.clock.pump([10.0] * 3)
        worker.comfort.rest({"for_s": 100.0, "running": "suspend", "reason": "quiet"})
        assert worker.comfort.availability()["still_s"] == 0.0
        worker.clock.pump([10.0] * 2)
        worker.comfort.rest({"for_s": 100.0, "running": "hand_back", "reason": "quiet"})
        said = worker.comfort.availability()
        assert (said["still_s"], said["since_s"]) == (20.0, 50.0)
        worker.comfort.rest({"for_s": 0, "running": "continue"})
        assert "still_s" not in worker.comfort.availability()


def test_signals_and_rests_end_on_the_devices_own_clock() -> None:
    with Worker(signals={"tariff": {"max": 0.2}}, min_dwell_s=0) as worker:
        worker.comfort.signalled({"tariff": {"value": 0.5, "ttl_s": 15.0}})
        assert worker.agent.paused == "tariff 0.5 > 0.2"
        worker.comfort.signalled({"tariff": {"value": 0.1, "ttl_s": 15.0}})
        assert not worker.agent.paused
        worker.comfort.rest({"for_s": 15.0, "running": "suspend", "reason": "quiet"})
        assert worker.agent.paused == "quiet" and worker.agent.done[-1] == ("pause", "suspend")
        worker.clock.pump([10.0, 10.0])
        assert not worker.agent.paused
        worker.comfort.rest({"for_s": 15.0, "running": "continue"})
        assert worker.agent.paused == "a person wants it left alone"
        worker.comfort.rest({"for_s": 0, "running": "continue"})
        assert not worker.agent.paused


def test_a_zone_that_is_not_known_is_as_no_clock(logged_failures: Any) -> None:
    with Worker(hours=["09:00-10:00"], zone="Nowhere/At_All", unknown="pause") as worker:
        assert worker.agent.paused == "hours: not known"
    assert not logged_failures


def test_a_monitor_that_fails_stops_no_later_look(logged_failures: Any) -> None:
    worker = Worker(only_when_charging=True)
    healthy = worker.comfort.read

    async def broken() -> Mapping[str, Any]:
        raise RuntimeError("a sensor burnt down")

    worker.comfort.read = broken
    with worker:
        assert len(logged_failures.flush()) == 1
        worker.comfort.read = healthy
        worker.sees(battery={"level": 50, "charging": False})
        assert worker.agent.paused == "on battery"


def test_two_looks_are_never_under_way_at_once() -> None:
    worker = Worker(only_when_charging=True)
    waiting: list[Deferred[Mapping[str, Any]]] = []

    async def slow() -> Mapping[str, Any]:
        waiting.append(Deferred())
        return await waiting[-1]

    worker.comfort.read = slow
    with worker:
        worker.comfort.look()
        worker.comfort.look()
        assert len(waiting) == 1
        waiting[0].callback({"battery": {"charging": True}})
        assert len(waiting) == 2, "what came meanwhile is looked at afterwards, once"
        waiting[1].callback({"battery": {"charging": False}})
        assert len(waiting) == 2 and worker.agent.paused == "on battery since 12:00"


def test_readings() -> None:
    metrics = {"battery": {"level": 50, "charging": True, "temperature_c": 41.0}, "temperature": 38.0,
               "load_average": [2.5, 1, 1], "owner_away_s": 9.0, "metered": True, "own_load": 2.0}  # fmt: skip
    found = readings_of(metrics, NOON)
    assert (found.battery_percent, found.charging, found.temperature_c, found.load) == (50, True, 41.0, 0.5)
    nothing = readings_of({"own_load": 1.0}, None)
    assert (nothing.battery_percent, nothing.temperature_c, nothing.load, nothing.metered) == (None, None, None, None)


@pytest.mark.parametrize(
    ("share", "count"), [(None, 8), (1.0, 8), (0.5, 4), (0.49, 3), (0.01, 1), (0.125, 1), (0.25, 2)]
)
def test_a_share_of_the_processors(share: float | None, count: int) -> None:
    assert allowed(share, range(8)) == set(range(count))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep processes to processors")
def test_what_is_started_keeps_to_its_share() -> None:
    before = os.sched_getaffinity(0)
    share = CpuShare()
    try:
        share.limit(0.01)
        assert share.count == 1
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writing, str(len(os.sched_getaffinity(0))).encode())
            os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(reading, 10) == b"1"
        os.close(reading)
        os.close(writing)
        share.limit(None)
        assert os.sched_getaffinity(0) == before
    finally:
        os.sched_setaffinity(0, before)


# Low disk


def test_a_low_disk_is_cleaned_of_what_nobody_needs(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "data", tmp_path / "data" / "scratch"
    left, again, mine = scratch / "4711", scratch / "2", scratch / "5"

    def use(place: Path) -> None:
        (place / "1").mkdir(parents=True, exist_ok=True)
        (place / "1" / "left").write_bytes(b"x" * 1000)

    use(left)
    use(again)
    gone = {"worker.log.1": 100, "worker.log.2026_11_20": 60}
    kept = {
        "journal.jsonl.new": 7,
        "journal.jsonl": 5,
        "worker.log": 5,
        "speed.json": 5,
        "device_id": 5,
        "worker.json": 5,
    }
    for name, size in (gone | kept).items():
        (folder / name).write_bytes(b"x" * size)
    now, cached = [1000.0], [4096]
    low = LowDisk(folder, scratch, lambda: now[0], [lambda: cached.pop() if cached else 0])
    use(mine)  # a runner of this life, and one whose process has the number of an old one
    (again / "2").mkdir()
    assert low.heed([]) == 0 and (folder / "worker.log.1").exists()
    assert low.heed(["low disk: 12 MiB free"]) == 160 + 1000 + 4096
    assert {each.name for each in folder.iterdir()} == {*kept, "scratch"}
    assert {each.name for each in scratch.iterdir()} == {mine.name, again.name}
    (folder / "worker.log.2").write_bytes(b"x")
    assert low.heed(["low disk: 12 MiB free"]) == 0, "not at each heartbeat"
    now[0] += EVERY_S
    assert low.heed(["low disk: 12 MiB free"]) == 1


# Before the first look, and after a restart


def comfort_with(tmp_path: Path, clock: Clock, **policy: Any) -> tuple[Worker, set[str]]:
    """A worker as `Worker`, with a memory in a file and probes that have not answered yet."""
    worker, pending = Worker(), set[str]()
    worker.clock = clock
    worker.comfort = Comfort(
        clock,
        worker.agent,  # type: ignore[arg-type]
        policy,
        worker.read,
        worker.local,
        worker.shares.append,
        10.0,
        lambda: frozenset(pending),
        ComfortMemory(tmp_path / "comfort.json", lambda: 1_800_000_000.0 + clock.seconds()),
    )
    return worker, pending


def test_a_phone_at_5_percent_is_not_offered_before_its_battery_has_told(tmp_path: Path) -> None:
    worker, pending = comfort_with(tmp_path, Clock(), battery={"pause_below": 40}, metered="deny")
    assert worker.comfort.registering() | {"since_s": 0} == {
        "state": "paused", "since_s": 0, "reason": "its owner's policy is looked at first", "running": "continue",
        "rules": [], "settling": False, "policy": ["battery: pause_below 40", "metered: deny"], "untold": [],
    }  # fmt: skip
    pending |= {"battery", "metered"}
    with worker:
        assert worker.agent.paused == "its owner's policy is looked at first: battery, network"
        assert worker.agent.said[-1]["state"] == "paused"
        pending.discard("metered")
        worker.metrics = {"metered": False}
        worker.comfort.answered()
        assert worker.agent.paused == "its owner's policy is looked at first: battery"
        pending.clear()
        worker.metrics = {"metered": False, "battery": {"level": 5, "charging": False}}
        worker.comfort.answered()
        assert worker.agent.paused == "battery 5 % < 40 %, on battery", "at once, and not at the next look"


def test_a_device_that_is_well_works_as_soon_as_its_probes_have_told(tmp_path: Path) -> None:
    worker, pending = comfort_with(tmp_path, Clock(), metered="deny")
    pending.add("metered")
    with worker:
        assert worker.comfort.registering()["state"] == "paused"
        worker.metrics = {"metered": False}
        pending.clear()
        worker.comfort.answered()
        assert worker.agent.said[-1]["state"] == "available" and not worker.agent.paused
    before = worker.reads
    worker.comfort.answered()
    assert worker.reads == before, "nobody looks any more"


def test_the_first_policy_of_a_cluster_is_looked_at_before_anything_is_taken(tmp_path: Path) -> None:
    worker, pending = comfort_with(tmp_path, Clock())
    with worker:
        assert worker.comfort.registering()["state"] == "available", "nobody has any rule"
        pending.add("metered")
        worker.comfort.welcomed({"policy": {"metered": "deny"}})
        assert worker.agent.paused == "its owner's policy is looked at first: network"
        pending.clear()
        worker.sees(metered=True)
        assert worker.agent.paused == "the network is metered"
    again, _ = comfort_with(tmp_path, Clock())
    assert again.comfort.registering()["policy"] == ["metered: deny"], "the next life knows it from the start"


def test_a_restart_forgets_neither_the_threshold_nor_when_the_power_went(tmp_path: Path) -> None:
    policy: dict[str, Any] = {"battery": {"pause_below": 40, "resume_above": 60}}
    clock = Clock()
    worker, _ = comfort_with(tmp_path, clock, **policy)
    with worker:
        worker.sees(battery={"level": 90, "charging": True})
        worker.sees(battery={"level": 31, "charging": False})
        assert worker.agent.paused == "battery 31 % < 40 %, on battery since 12:00"
    clock.advance(600.0)
    worker, _ = comfort_with(tmp_path, clock, **policy)
    worker.metrics = {"battery": {"level": 50, "charging": False}}
    with worker:
        assert worker.agent.paused == "battery 50 % < 60 %, on battery since 12:00"
        worker.sees(battery={"level": 61, "charging": False})
        assert "(over;" in worker.agent.paused
    worker, _ = comfort_with(tmp_path, clock, **policy)
    worker.metrics = {"battery": {"level": 61, "charging": False}}
    with worker:
        assert "(over;" in worker.agent.paused, "nor that it has to be well for a while"
        worker.clock.pump([10.0] * 7)
        assert not worker.agent.paused
    worker, _ = comfort_with(tmp_path, clock, **policy)
    worker.metrics = {"battery": {"level": 50, "charging": False}}
    with worker:
        assert not worker.agent.paused


def test_a_life_that_ends_before_the_battery_has_told_forgets_nothing(tmp_path: Path) -> None:
    """Also where the wait for a reading is longer than the shortest time that all has to be well."""
    policy: dict[str, Any] = {"battery": {"pause_below": 40, "resume_above": 60}, "min_dwell_s": 0}
    clock = Clock()
    worker, _ = comfort_with(tmp_path, clock, **policy)
    with worker:
        worker.sees(battery={"level": 31, "charging": False})
    worker, pending = comfort_with(tmp_path, clock, **policy)
    pending.add("battery")
    with worker:
        worker.sees()
        assert worker.agent.paused.startswith("its owner's policy is looked at first: battery")
    worker, _ = comfort_with(tmp_path, clock, **policy)
    worker.metrics = {"battery": {"level": 50, "charging": False}}
    with worker:
        assert worker.agent.paused.startswith("battery 50 % < 60 %")


def test_many_rules_are_remembered_too(tmp_path: Path) -> None:
    signals = {f"signal-{number}": {"max": 0} for number in range(64)}
    policy: dict[str, Any] = {"battery": {"pause_below": 40, "resume_above": 60}, "signals": signals}
    clock = Clock()
    worker, _ = comfort_with(tmp_path, clock, **policy)
    with worker:
        worker.comfort.welcomed({"signals": {name: {"value": 1.0, "ttl_s": 900.0} for name in signals}})
        worker.sees(battery={"level": 31, "charging": False})
    assert len(json.loads((tmp_path / "comfort.json").read_text())["pausing"]) == 65
    worker, _ = comfort_with(tmp_path, clock, **policy)
    worker.metrics = {"battery": {"level": 50, "charging": False}}
    with worker:
        worker.comfort.welcomed({})
        assert worker.agent.paused.startswith("battery 50 % < 60 %")


def test_signals_are_known_before_anything_is_taken(tmp_path: Path) -> None:
    worker, _ = comfort_with(tmp_path, Clock(), signals={"tariff": {"max": 0.2}})
    with worker:
        assert worker.comfort.registering()["state"] == "paused"
        worker.comfort.welcomed({"signals": {"tariff": {"value": 0.5, "ttl_s": 900.0}}})
        assert [each["state"] for each in worker.agent.said] == ["paused"] * len(worker.agent.said)
        assert worker.agent.paused == "tariff 0.5 > 0.2"
        assert worker.agent.said[-1]["rules"] == [{"rule": "signal tariff", "known": True}], "and the main knows it"
    worker, _ = comfort_with(tmp_path / "other", Clock(), signals={"tariff": {"max": 0.2}})
    with worker:
        worker.comfort.welcomed({})
        assert not worker.agent.paused and worker.agent.said[-1]["state"] == "available"


def test_what_is_remembered_is_written_when_it_changes_and_not_for_each_percent(tmp_path: Path) -> None:
    worker, _ = comfort_with(tmp_path, Clock(), battery={"pause_below": 40})
    place = tmp_path / "comfort.json"
    with worker:
        worker.sees(battery={"level": 31, "charging": False})
        written = place.stat().st_ino
        for level in range(30, 20, -1):
            worker.sees(battery={"level": level, "charging": False})
        assert place.stat().st_ino == written
        for _ in range(8):
            worker.sees(battery={"level": 99, "charging": True})
        assert place.stat().st_ino != written and json.loads(place.read_text())["pausing"] == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pausing": {}}', "[" * 100_000,
                                  '{"pausing": {"battery": 3}, "on_battery_since": "", "defaults": {}, "at": 0}',
                                  '{"pausing": {}, "on_battery_since": "", "defaults": {"hours": ["x"]}, "at": 0}'],
)  # fmt: skip
def test_a_damaged_memory_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "comfort.json").write_text(text)
    assert ComfortMemory(tmp_path / "comfort.json", lambda: 0.0).load() == Kept()


def test_a_time_of_day_is_forgotten_after_a_day(tmp_path: Path) -> None:
    now = [1_800_000_000.0]
    memory = ComfortMemory(tmp_path / "comfort.json", lambda: now[0])
    kept = Kept({"battery": "battery 31 % < 40 %"}, "14:02", {"metered": "deny"})
    memory.save(kept)
    assert memory.load() == kept
    for at in (now[0] + 90_000, now[0] - 10):
        now[0] = at
        assert memory.load().on_battery_since == "" and memory.load().pausing == kept.pausing


def test_a_device_that_offers_less_says_so(tmp_path: Path) -> None:
    worker, _ = comfort_with(tmp_path, Clock())
    offered: list[str] = []
    worker.comfort.limit_cpus = lambda share: share == 0.5
    worker.comfort.offer_anew = lambda: offered.append("anew")
    with worker:
        for _ in range(3):
            worker.comfort.welcomed({"policy": {"max_cpu_share": 0.5}})
        assert offered == ["anew"], "once: the next registration has it"
        worker.comfort.welcomed({"policy": {"metered": "deny", "max_cpu_share": 1}})
        assert offered == ["anew"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep processes to processors")
def test_what_runs_already_keeps_to_a_share_that_comes_later() -> None:
    """A process of a process, as a warm one of a runner, and each of its threads."""
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("there is one processor only")
    program = (
        "import os, threading, time\nif os.fork() == 0:\n    threading.Thread(target=time.sleep, args=[300]).start()\n"
        "    print(os.getpid(), flush=True)\n    time.sleep(300)\nos.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    warm = int(process.stdout.readline())
    share = CpuShare()

    def kept() -> list[int]:
        return [len(os.sched_getaffinity(each)) for each in (process.pid, *threads_of(warm))]

    try:
        share.limit(0.01)
        assert (kept(), share.count, share.had) == ([1, 1, 1], 1, len(before))
        share.limit(None)
        assert kept() == [len(before)] * 3
    finally:
        os.sched_setaffinity(0, before)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
