"""The journal: whatever prefix of it reached the disk, the next life draws safe conclusions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.worker.journal import (
    ACCEPTED,
    COMPACT_ABOVE_BYTES,
    RESULT,
    STARTED,
    Journal,
    Key,
    after_restart,
    replay,
)

STEPS = ("accepted", "started", "process", "result", "gone")


async def at_once(function: Callable[[], Any]) -> Any:
    return function()


def written(path: Path, steps: list[tuple[str, Key]]) -> bytes:
    journal = Journal(path, at_once)
    journal.open()
    for step, key in steps:
        if step == "result":
            journal.result(key, {"task_id": key[0], "status": "completed"})
        elif step == "process":
            journal.process(key, 123, 4.5)
        else:
            getattr(journal, step)(key)
    journal.close()
    return path.read_bytes()


def lives(draw: st.DrawFn) -> list[tuple[str, Key]]:
    """Attempts that each go through a part of their life, interleaved."""
    keys = [(f"task-{number}", draw(st.integers(1, 3))) for number in range(draw(st.integers(0, 4)))]
    left = {key: list(STEPS[: draw(st.integers(0, len(STEPS)))]) for key in keys}
    steps = []
    while any(left.values()):
        key = draw(st.sampled_from([key for key in keys if left[key]]))
        steps.append((left[key].pop(0), key))
    return steps


histories = st.composite(lives)()


@given(histories, st.data())
def test_any_prefix_with_a_torn_line_replays_sanely(
    tmp_path_factory: Any, steps: list[tuple[str, Key]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    whole = written(path, steps)
    cut = data.draw(st.integers(0, len(whole)))
    found = after_restart(replay(whole[:cut]))
    complete = whole[:cut].count(b"\n")
    # A record whose every character is there counts even without its newline.
    if cut < len(whole) and whole[cut : cut + 1] == b"\n":
        complete += 1
    expected: dict[Key, str] = {}
    for step, key in steps[:complete]:
        expected[key] = step
    assert {key: each.state for key, each in found.items()} == {
        key: RESULT if step == "result" else STARTED
        for key, step in expected.items()
        if step not in ("accepted", "gone")
    }


@given(st.binary(max_size=300))
def test_garbage_is_no_attempt_and_no_error(garbage: bytes) -> None:
    assert all(isinstance(key[0], str) for key in replay(garbage))


def test_a_restart_forgets_what_was_only_accepted_and_keeps_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    written(path, [("accepted", ("a", 1)), ("accepted", ("b", 1)), ("started", ("b", 1)), ("result", ("c", 2))])
    with open(path, "ab") as file:
        file.write(b'{"is":"result","task":"b","ep')
    journal = Journal(path, at_once)
    found = journal.open()
    assert {key: each.state for key, each in found.items()} == {("b", 1): STARTED, ("c", 2): RESULT}
    assert path.read_bytes().count(b"\n") == 2
    journal.gone(("b", 1))
    journal.close()
    assert list(replay(path.read_bytes())) == [("c", 2)]


def test_the_process_of_an_attempt_survives_restarts(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    written(path, [("started", ("a", 1)), ("process", ("a", 1))])
    for _ in range(2):
        journal = Journal(path, at_once)
        found = journal.open()
        journal.close()
        assert (found["a", 1].process, found["a", 1].began_s) == (123, 4.5)


def test_a_long_journal_with_little_alive_is_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path, at_once)
    journal.open()
    journal.result(("kept", 1), {"output": "k"})
    for number in range(300):
        key = (f"task-{number}", 1)
        journal.accepted(key)
        journal.started(key)
        journal.result(key, {"output": "x" * 10_000})
        journal.gone(key)
        assert path.stat().st_size < COMPACT_ABOVE_BYTES + 11_000
    journal.accepted(("last", 1))
    journal.close()
    found = replay(path.read_bytes())
    assert found["kept", 1].result == {"output": "k"}
    assert found["last", 1].state == ACCEPTED
    assert len(found) == 2


@pytest_twisted.ensureDeferred
async def test_syncing_outlives_a_rewriting(tmp_path: Path) -> None:
    calls: list[Callable[[], Any]] = []

    async def later(function: Callable[[], Any]) -> Any:
        calls.append(function)

    journal = Journal(tmp_path / "journal.jsonl", later)
    journal.open()
    journal.started(("a", 1))
    await journal.sync()
    journal._rewrite()
    calls[0]()
    journal.close()
    assert json.loads((tmp_path / "journal.jsonl").read_text())["is"] == "started"
