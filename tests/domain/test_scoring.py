"""Scores of devices, strategies, and the wait for a faster device."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.devices import DeviceProfile
from retirecluster.domain.explain import explain
from retirecluster.domain.scheduler.picture import Device
from retirecluster.domain.scheduler.scoring import STRATEGIES
from retirecluster.domain.scheduler.tail import LONGEST_WAIT_S
from tests.domain.test_placement import Bed

NAMES = st.sampled_from(sorted(STRATEGIES))
ANYTHING = st.one_of(st.floats(), st.integers(-(10**400), 10**400), st.text(max_size=3), st.none())


def score(strategy: str, metrics: Any, trust: float = 1.0, speed: float = 1.0) -> float:
    device = Device("d", evolve(DeviceProfile("d"), speed=speed), trust=trust, metrics=metrics)
    return STRATEGIES[strategy].score(device, "echo", 1.0)


@given(NAMES, st.sampled_from(["cpu_usage", "memory_usage", "temperature"]), st.floats(0, 200), st.floats(0, 200))
def test_more_load_memory_or_heat_is_never_better(strategy: str, name: str, one: float, other: float) -> None:
    less, more = sorted((one, other))
    assert score(strategy, {name: less}) >= score(strategy, {name: more})


@given(NAMES, st.floats(0, 100), st.floats(0, 100))
def test_more_battery_and_trust_is_never_worse(strategy: str, one: float, other: float) -> None:
    less, more = ({"battery": {"level": level, "charging": False}} for level in sorted((one, other)))
    assert score(strategy, less) <= score(strategy, more) <= score(strategy, {})
    assert score(strategy, {}, min(one, other) / 100) <= score(strategy, {}, max(one, other) / 100)


@given(NAMES, ANYTHING, ANYTHING, ANYTHING)
def test_nonsense_gives_a_score_all_the_same(strategy: str, one: Any, two: Any, three: Any) -> None:
    metrics = {
        "cpu_usage": one,
        "memory_usage": two,
        "temperature": three,
        "battery": {"level": one, "charging": False},
    }
    assert 0 < score(strategy, metrics, trust=two, speed=three) < float("inf")


def tail_bed() -> Bed:
    """A fast device that runs a task of 100 s, a slow one with room, and one task that waits."""
    bed = Bed()
    bed.device("fast", slots=1, speed=2.0)
    [first] = bed.submit()
    bed.grants()
    bed.end(first, 100.0)
    bed.device("slow", slots=1, speed=0.1)
    bed.submit()
    assert [device for _, device in bed.grants()] == ["fast"]
    bed.mono_s += 50
    return bed


def test_the_last_long_task_waits_for_the_faster_device() -> None:
    bed = tail_bed()
    [last] = bed.submit()
    assert bed.grants() == []
    assert "waits for fast, which is faster" in explain(last, bed.scheduler.devices.values())["reason"]
    running = next(iter(bed.scheduler.devices["fast"].attempts.values()))
    bed.end(running, 100.0)
    assert bed.grants() == [(last.task_id, "fast")]


def test_the_wait_is_bounded_by_a_timer() -> None:
    bed = tail_bed()
    [last] = bed.submit()
    assert bed.grants() == []
    at = bed.scheduler.next_timer_at()
    assert at is not None and at <= bed.mono_s + LONGEST_WAIT_S
    bed.mono_s = at
    bed.scheduler.run_timers(bed.now)
    assert bed.grants() == [(last.task_id, "slow")]


def test_when_much_waits_every_device_works() -> None:
    bed = tail_bed()
    bed.submit(100)
    assert [device for _, device in bed.grants()] == ["slow"]


def test_a_device_that_is_lost_is_not_waited_for() -> None:
    bed = tail_bed()
    [last] = bed.submit()
    assert bed.grants() == []
    bed.scheduler.disconnected(bed.scheduler.devices["fast"], bed.now, "gone", closed=False)
    assert bed.grants() == [(last.task_id, "slow")]


@pytest.mark.parametrize(("strategy", "devices"), [("spread", 3), ("pack", 1)])
def test_strategies(strategy: str, devices: int) -> None:
    bed = Bed()
    bed.scheduler.queues.use(STRATEGIES[strategy])
    for name in "abc":
        bed.device(name, slots=4)
    bed.submit(3)
    assert len({device for _, device in bed.grants()}) == devices


def test_files_that_are_there_count_and_the_record_tells() -> None:
    bed = Bed()
    for name in "abc":
        bed.device(name, slots=1)
    bed.scheduler.queues.holdings.fetched("c", "0" * 64)
    [task] = bed.submit(files={"inputs": [{"name": "in", "sha256": "0" * 64}]})
    assert bed.grants() == [(task.task_id, "c")]
    record = bed.scheduler.queues.records.of(task.task_id)
    assert record is not None
    document = record.document()
    assert [each["device_id"] for each in document["candidates"]] == ["c", "a", "b"] and document["others"] == 0
    assert "files (1 against 0.6)" in document["why"]
