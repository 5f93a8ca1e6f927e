"""The nearest changes that would let a waiting task run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.explain import explain
from retirecluster.domain.nearest import SHOWN, nearest
from retirecluster.domain.scheduler import Task
from retirecluster.domain.scheduler.picture import Pause
from tests.domain.test_placement import Bed

GIB = 2**30


def changes(bed: Bed, task: Task) -> list[dict[str, Any]]:
    return nearest(task, bed.scheduler.devices.values())


def test_the_smallest_change_comes_first_and_the_hint_says_it() -> None:
    bed = Bed()
    bed.device("pixel-4", memory=4 * GIB)
    bed.device("pi", memory=3 * GIB // 2)
    bed.scheduler.devices["pixel-4"].pause = Pause("battery 31 % < 40 %, on battery", "continue", 0.0)
    [task] = bed.submit(requirements={"min_memory_gb": 2})
    assert bed.grants() == []
    assert [each["text"] for each in changes(bed, task)] == ["plug in pixel-4", "lower min_memory_gb to 1.5"]
    step = {"change": "lower", "text": "lower min_memory_gb to 1.5", "field": "min_memory_gb", "value": 1.5}
    assert changes(bed, task)[1] == {"device_id": "pi", "text": step["text"], "steps": [step]}
    told = explain(task, bed.scheduler.devices.values())
    assert told["hint"].startswith("plug in pixel-4, or lower min_memory_gb to 1.5 (nearest is pixel-4: paused")
    assert told["nearest"] == changes(bed, task)


def test_what_is_enough_on_one_device_is_not_told_again_with_more() -> None:
    bed = Bed()
    bed.device("a", memory=GIB)
    bed.device("b", memory=GIB)
    bed.scheduler.devices["b"].cordoned = True
    [task] = bed.submit(requirements={"min_memory_gb": 2})
    assert [each["text"] for each in changes(bed, task)] == ["lower min_memory_gb to 1"]


def test_a_rest_that_the_device_itself_reports_is_one_step() -> None:
    bed = Bed()
    bed.device("a")
    bed.scheduler.devices["a"].resting = "borrowed by its owner"
    bed.scheduler.devices["a"].pause = Pause("borrowed by its owner", "continue", 0.0)
    [task] = bed.submit()
    assert [each["text"] for each in changes(bed, task)] == ["end the rest of a (borrowed by its owner)"]


def test_several_steps_on_one_device() -> None:
    bed = Bed()
    bed.device("a", cores=2, role="mobile")
    bed.scheduler.devices["a"].cordoned = True
    [task] = bed.submit(requirements={"role": "nas", "min_cpu_cores": 4, "platform": "linux"})
    [change] = changes(bed, task)
    assert change["text"] == "uncordon a and lower min_cpu_cores to 2 and drop platform linux and give a the role nas"


def test_a_device_that_is_away_is_to_be_started() -> None:
    bed = Bed()
    bed.device("a")
    bed.scheduler.disconnected(bed.scheduler.devices["a"], bed.now, "gone", closed=False)
    [task] = bed.submit()
    assert [each["text"] for each in changes(bed, task)] == ["start a"]


def test_no_change_is_told_where_a_device_is_busy() -> None:
    bed = Bed()
    bed.device("a", slots=1)
    bed.device("b", memory=GIB)
    tasks = bed.submit(2, requirements={"min_memory_gb": 4})
    assert len(bed.grants()) == 1 and changes(bed, tasks[1]) == []


SIZES = st.fixed_dictionaries(
    {}, optional={name: st.integers(0, 64) for name in ("min_cpu_cores", "min_memory_gb", "min_storage_gb")}
)
KINDS = st.fixed_dictionaries(
    {}, optional={"platform": st.just("android"), "gpu": st.just(True), "isolation": st.integers(0, 3)}
)


@given(SIZES, KINDS, st.lists(st.tuples(st.integers(1, 16), st.integers(1, 16)), min_size=1, max_size=6))
def test_a_task_that_is_changed_as_told_runs(sizes: Any, kinds: Any, shapes: Any) -> None:
    bed = Bed()
    for number, (cores, gib) in enumerate(shapes):
        bed.device(f"d{number}", cores=cores, memory=gib * GIB)
    wish = sizes | kinds
    [task] = bed.submit(requirements=wish)
    found = changes(bed, task)
    assert bool(found) == (bed.grants() == []) and len(found) <= SHOWN
    for change in found:
        if all(step["change"] in ("lower", "drop") for step in change["steps"]):
            again = Bed()
            cores, gib = shapes[int(change["device_id"][1:])]
            again.device(change["device_id"], cores=cores, memory=gib * GIB)
            mended = wish | {step["field"]: step["value"] for step in change["steps"]}
            again.submit(requirements=mended)
            assert len(again.grants()) == 1


@pytest.mark.parametrize("delivery", ["at_least_once", "at_most_once"])
def test_what_no_demand_can_mend(delivery: str) -> None:
    bed = Bed()
    bed.device("a", task_types=["shell"])
    [task] = bed.submit(delivery=delivery)
    assert changes(bed, task)[0]["text"].startswith("update the worker of a, which does not offer task type echo")
