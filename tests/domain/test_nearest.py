"""The nearest changes that would let a waiting task run."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.explain import explain
from retirecluster.domain.nearest import SHOWN, nearest
from retirecluster.domain.policy import Asking
from retirecluster.domain.scheduler import Task
from retirecluster.domain.scheduler.picture import Pause
from retirecluster.domain.wake import ASLEEP
from tests.domain.test_placement import Bed

GIB = 2**30


def changes(bed: Bed, task: Task) -> list[dict[str, Any]]:
    return nearest(task, bed.scheduler.devices.values())


def test_the_smallest_change_comes_first_and_the_hint_says_it() -> None:
    bed = Bed()
    bed.device("pixel-4", memory=4 * GIB)
    bed.device("pi", memory=3 * GIB // 2)
    pause(bed, "pixel-4", "battery 31 % < 40 %, on battery", Asking("battery"))
    [task] = bed.submit(requirements={"min_memory_gb": 2})
    assert bed.grants() == []
    assert [each["text"] for each in changes(bed, task)] == ["plug in pixel-4", "lower min_memory_gb to 1.5"]
    step = {"change": "lower", "text": "lower min_memory_gb to 1.5", "field": "min_memory_gb", "value": 1.5}
    assert changes(bed, task)[1] == {"device_id": "pi", "text": step["text"], "steps": [step]}
    told = explain(task, bed.scheduler.devices.values())
    assert told["hint"].startswith("plug in pixel-4, or lower min_memory_gb to 1.5 (nearest is pixel-4: paused")
    assert told["nearest"] == changes(bed, task)


def pause(bed: Bed, name: str, reason: str, *rules: Asking, settling: bool = False) -> None:
    bed.scheduler.devices[name].pause = Pause(reason, "continue", 0.0, rules, settling)


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
    bed.scheduler.devices["a"].rests = ("borrowed by its owner",)
    bed.scheduler.devices["a"].pause = Pause("borrowed by its owner", "continue", 0.0)
    [task] = bed.submit()
    assert [each["text"] for each in changes(bed, task)] == ["end the rest of a (borrowed by its owner)"]


@pytest.mark.parametrize(
    ("reason", "rules", "settling", "words"),
    [
        ("31 % < 40 %", [Asking("battery")], False, "plug in a"),
        ("on battery; battery 31 % < 40 %", [Asking("power"), Asking("battery")], False, "plug in a"),
        ("battery: not known", [Asking("battery", False)], False, "let a work although its battery is not known"),
        (
            "battery 31 % < 40 %, on battery; temperature 61 °C > 45 °C",
            [Asking("battery"), Asking("temperature")],
            False,
            "plug in a and wait until a is cooler",
        ),
        (
            "battery: not known; outside its hours; load of others 3 > 1",
            [Asking("battery", False), Asking("hours"), Asking("load")],
            False,
            "let a work although its battery is not known and wait for the hours of a and wait until there is less "
            "other load on a",
        ),
        ("battery 31 % (over)", [], True, "wait until a goes on (battery 31 % (over))"),
        ("borrowed to swap the battery", [], False, "let a work again (borrowed to swap the battery)"),
        ("its owner is there", [Asking("owner")], False, "wait until the owner of a is away"),
        ("metered", [Asking("network")], False, "connect a to a network that is not metered"),
        ("tariff 3 > 1", [Asking("signal tariff")], False, "wait for the signal tariff on a"),
        ("the moon is full", [Asking("moon")], False, "let a work again (its rule moon)"),
    ],
)
def test_each_rule_that_pauses_is_a_step(reason: str, rules: list[Asking], settling: bool, words: str) -> None:
    bed = Bed()
    bed.device("a")
    pause(bed, "a", reason, *rules, settling=settling)
    [task] = bed.submit()
    assert [each["text"] for each in changes(bed, task)] == [words]


def test_the_sentence_of_a_worker_that_names_no_rules_is_told_and_not_read() -> None:
    bed = Bed()
    bed.device("a")
    said = {"state": "paused", "reason": "battery 31 % < 40 %, on battery"}
    bed.scheduler.pauses.said(bed.scheduler.devices["a"], said, bed.now)
    [task] = bed.submit()
    assert [each["text"] for each in changes(bed, task)] == [
        "let a work again (battery 31 % < 40 %, on battery)",
    ]


def test_the_rules_arrive_with_the_availability_and_go_with_it() -> None:
    bed = Bed()
    bed.device("a")
    device, rules = bed.scheduler.devices["a"], [{"rule": "battery", "known": True}, {"rule": "hours", "known": False}]
    bed.scheduler.pauses.said(device, {"state": "paused", "rules": rules}, bed.now)
    assert device.pause is not None and device.pause.rules == (Asking("battery"), Asking("hours", False))
    bed.scheduler.pauses.said(device, {"state": "paused", "rules": [], "settling": True}, bed.now)
    assert device.pause.rules == () and device.pause.settling


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


def test_what_lasts_while_a_device_is_away_is_to_be_ended_too() -> None:
    bed = Bed()
    bed.device("a")
    device = bed.scheduler.devices["a"]
    bed.scheduler.fleet.set_flags(device, bed.now, cordoned=True)
    device.quarantine, device.rests = "2 wrong results in 2 verified tasks", ("quiet",)
    bed.scheduler.disconnected(device, bed.now, "gone", closed=False)
    [task] = bed.submit()
    assert [each["text"] for each in changes(bed, task)] == [
        "start a and release a from quarantine and uncordon a and end the rest of a (quiet)"
    ]


@pytest.mark.parametrize(
    ("woken", "words"), [(None, "start a"), ("", "wake a"), ("woken 4s ago", "wake a (woken 4s ago)")]
)
def test_a_device_that_sleeps_is_to_be_woken(woken: str | None, words: str) -> None:
    bed = Bed()
    bed.device("a")
    bed.scheduler.left(bed.scheduler.devices["a"], bed.now, ASLEEP)
    [task] = bed.submit()
    assert [each["text"] for each in nearest(task, bed.scheduler.devices.values(), lambda _: woken)] == [words]


def test_only_the_tags_that_are_missing_are_to_be_given() -> None:
    bed = Bed()
    bed.device("a", tags=["x"])
    [task] = bed.submit(requirements={"tags": ["x", "y", "z"]})
    [change] = changes(bed, task)
    assert change["text"] == "give a the tags y, z" and change["steps"][0]["value"] == ["y", "z"]


def test_of_several_sizes_the_one_that_gives_up_least_is_told_alone() -> None:
    bed = Bed()
    for name, gib in (("a", 1), ("b", 2), ("c", 3), ("d", 7.5)):
        bed.device(name, memory=int(gib * GIB))
    [task] = bed.submit(requirements={"min_memory_gb": 8})
    assert [each["text"] for each in changes(bed, task)] == ["lower min_memory_gb to 7.5"]


SHAPES = st.lists(st.tuples(st.integers(1, 15), st.integers(1, 15)), min_size=1, max_size=8)


@given(SHAPES)
def test_no_change_asks_for_more_than_another(shapes: list[tuple[int, int]]) -> None:
    """Each is the best of its kind, and the first gives up least of all that is asked."""
    bed = Bed()
    for number, (cores, gib) in enumerate(shapes):
        bed.device(f"d{number}", cores=cores, memory=gib * GIB)
    [task] = bed.submit(requirements={"min_cpu_cores": 16, "min_memory_gb": 16})
    best = [
        shape for shape in set(shapes) if not any(o != shape and o[0] >= shape[0] and o[1] >= shape[1] for o in shapes)
    ]
    told = [tuple(step["value"] for step in change["steps"]) for change in changes(bed, task)]
    assert told and set(told) <= set(best) and len(told) == min(SHOWN, len(best)) == len(set(told))
    assert sum(told[0]) == max(map(sum, shapes))


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
