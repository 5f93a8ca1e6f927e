"""What the demo found, told with its checks and its times."""

from __future__ import annotations

import os
from typing import Any

from attrs import frozen

from retirecluster.client.console import Console
from retirecluster.client.demo_input import Input
from retirecluster.client.demo_work import Merged, Outcome, merge
from retirecluster.client.local import WorkerProfile
from retirecluster.domain.units import format_bytes
from retirecluster.render.tables import render_pairs, render_table

TOP_WORDS = 10
PROBLEMS_SHOWN = 5


@frozen
class Measured:
    """Seconds that the steps took."""

    submit_s: float
    run_s: float
    collect_s: float
    alone_s: float

    @property
    def cluster_s(self) -> float:
        return self.submit_s + self.run_s + self.collect_s


def report(
    console: Console,
    found: Input,
    profiles: list[WorkerProfile],
    demands: list[dict[str, Any]],
    outcomes: list[Outcome],
    alone: Merged,
    measured: Measured,
) -> int:
    """Print everything; 0 if all is as it must be, else 1 with the reasons."""
    problems = [outcome.problem for outcome in outcomes if outcome.problem]
    problems += misplaced(profiles, demands, outcomes)
    merged = merge(outcome.part for outcome in outcomes if outcome.part is not None)
    if not problems and merged.digest != alone.digest:
        problems.append("the cluster's index differs from the one made in one process")
    console.lines(["", *_devices(console, profiles, outcomes)])
    _tell_placement(console, demands, problems)
    console.lines(["", *_figures(found, merged, alone, measured), ""])
    if problems:
        return _tell_problems(console, problems)
    console.lines(_top_words(console, merged))
    console.line()
    console.line(console.style("The two indexes are equal.", "green"))
    console.lines(_about_time(profiles, outcomes, measured))
    return 0


def misplaced(profiles: list[WorkerProfile], demands: list[dict[str, Any]], outcomes: list[Outcome]) -> list[str]:
    """Tasks that ran on a device of another role than they asked for."""
    roles = {each.device_id: each.role for each in profiles}
    return [
        f"{outcome.task['task_id']} asked for role {demand['role']} and ran on {outcome.device_id}"
        for demand, outcome in zip(demands, outcomes, strict=True)
        if demand and roles.get(outcome.device_id) != demand["role"]
    ]


def _devices(console: Console, profiles: list[WorkerProfile], outcomes: list[Outcome]) -> list[str]:
    rows = []
    for each in profiles:
        own = [outcome for outcome in outcomes if outcome.device_id == each.device_id]
        busy_s = sum(outcome.result.get("execution_time") or 0.0 for outcome in own)
        size_bytes = sum(text["bytes"] for outcome in own for text in (outcome.part or {"texts": []})["texts"])
        rows.append((each.device_id, str(each.role), str(len(own)), format_bytes(size_bytes), f"{busy_s:.1f} s"))
    titles = ("DEVICE", "ROLE", "TASKS", "TEXT", "BUSY")
    lines = render_table(titles, rows, width=console.width and console.width - 2, right=frozenset({2, 3, 4}))
    return ["  " + line for line in lines]


def _tell_placement(console: Console, demands: list[dict[str, Any]], problems: list[str]) -> None:
    asked = [demand["role"] for demand in demands if demand]
    if not asked or problems:
        return
    each = ", ".join(f"{asked.count(role)} for role {role}" for role in sorted(set(asked)))
    console.line()
    console.line(f"  Some tasks asked for a role: {each}. All of them ran there.")


def _figures(found: Input, merged: Merged, alone: Merged, measured: Measured) -> list[str]:
    left_out = f"  ({found.left_out} left out: not UTF-8 text)" if found.left_out else ""
    steps = f"submit {measured.submit_s:.1f} s, run {measured.run_s:.1f} s, fetch {measured.collect_s:.1f} s"
    return render_pairs(
        [
            ("files", f"{found.files}{left_out}"),
            ("bytes", f"{found.size_bytes:,}"),
            ("words", f"{merged.words:,}"),
            ("distinct words", f"{len(merged.index):,}"),
            ("cluster", f"{measured.cluster_s:.1f} s  ({steps})"),
            ("one process", f"{measured.alone_s:.1f} s"),
            ("digest, cluster", merged.digest),
            ("digest, one process", alone.digest),
        ]
    )


def _top_words(console: Console, merged: Merged) -> list[str]:
    rows = [(word, f"{times:,}", f"{texts:,}") for word, times, texts in merged.top(TOP_WORDS)]
    width = console.width and console.width - 2
    return [
        "  " + line for line in render_table(("WORD", "TIMES", "TEXTS"), rows, width=width, right=frozenset({1, 2}))
    ]


def _about_time(profiles: list[WorkerProfile], outcomes: list[Outcome], measured: Measured) -> list[str]:
    if measured.cluster_s <= measured.alone_s:
        return []
    cores = os.cpu_count() or 1
    shared = f"{len(profiles)} workers" if len(profiles) > 1 else "the worker"
    machine = f"this machine's {cores} processors" if cores > 1 else "this machine's one processor"
    journeys = f"{len(outcomes)} short tasks travel" if len(outcomes) > 1 else "one short task travels"
    return [
        f"One process was faster, as it should be here: {shared} and the main share {machine},",
        f"and {journeys} there and back. What a cluster adds is other devices' processors.",
    ]


def _tell_problems(console: Console, problems: list[str]) -> int:
    for problem in problems[:PROBLEMS_SHOWN]:
        console.note(f"retire-cluster: error: {problem}")
    if len(problems) > PROBLEMS_SHOWN:
        console.note(f"retire-cluster: error: and {len(problems) - PROBLEMS_SHOWN} more")
    return 1
