"""The states of a task and the one table of its transitions.

The table feeds the scheduler (which may make no other step), the CHECK in the database, the diagram in the
documentation and the tests. Each row: what happened, in which states that may be, and where it may lead.
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class State(str, Enum):
    """Where a task is. The values are what databases, wires and people see."""

    BLOCKED = "blocked"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    RETRYING = "retrying"
    HELD = "held"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    LOST = "lost"

    __str__ = str.__str__


S = State
FINAL = frozenset({S.COMPLETED, S.FAILED, S.CANCELLED, S.EXPIRED, S.LOST})
"""States that never change again."""
HELD_BY_DEVICE = frozenset({S.ASSIGNED, S.RUNNING, S.CANCELLING})
"""States in which an attempt is current and a device holds it."""
WAITING = frozenset({S.BLOCKED, S.QUEUED, S.RETRYING, S.HELD})
"""States in which nothing runs and something else has to happen first."""


@frozen
class Transition:
    """`event` takes a task in one of `sources` to one of `targets`."""

    event: str
    sources: frozenset[State]
    targets: frozenset[State]
    doc: str


def _row(event: str, sources: set[State], targets: set[State], doc: str) -> Transition:
    return Transition(event, frozenset(sources), frozenset(targets), doc)


TRANSITIONS = (
    _row("unblock", {S.BLOCKED}, {S.QUEUED}, "what it waited for has ended"),
    _row("verified", {S.BLOCKED}, {S.COMPLETED, S.FAILED}, "its copies on different devices have ended"),
    _row("grant", {S.QUEUED}, {S.ASSIGNED}, "a device was chosen; epoch + 1"),
    _row("started", {S.ASSIGNED}, {S.RUNNING}, "the device says the task's process runs"),
    _row(
        "result_ok",
        {S.ASSIGNED, S.RUNNING, S.CANCELLING},
        {S.COMPLETED},
        "the current attempt succeeded (also when a cancel was on its way)",
    ),
    _row(
        "result_failed",
        {S.ASSIGNED, S.RUNNING, S.CANCELLING},
        {S.RETRYING, S.FAILED, S.CANCELLED},
        "the current attempt failed: again while attempts are left",
    ),
    _row(
        "lease_over",
        {S.ASSIGNED, S.RUNNING},
        {S.RETRYING, S.QUEUED, S.FAILED, S.LOST},
        "its device was silent too long",
    ),
    _row(
        "moved_on",
        {S.ASSIGNED, S.RUNNING},
        {S.QUEUED, S.HELD},
        "its device's connection was closed without a farewell; not charged",
    ),
    _row(
        "died",
        {S.RUNNING},
        {S.RETRYING, S.HELD, S.FAILED, S.LOST},
        "its device restarted, or its process died with it",
    ),
    _row("refused", {S.ASSIGNED}, {S.QUEUED}, "the device could not take it; not charged"),
    _row("never_started", {S.ASSIGNED}, {S.QUEUED}, "the device came back without it; not charged"),
    _row("handed_back", {S.ASSIGNED, S.RUNNING}, {S.QUEUED, S.LOST}, "the device drained; not charged"),
    _row("backoff_over", {S.RETRYING}, {S.QUEUED}, "the pause before the next attempt is over"),
    _row("hold", {S.BLOCKED, S.QUEUED, S.RETRYING}, {S.HELD}, "a person holds it back"),
    _row("release", {S.HELD}, {S.QUEUED, S.BLOCKED}, "a person lets it go on"),
    _row("cancel", {S.BLOCKED, S.QUEUED, S.RETRYING, S.HELD}, {S.CANCELLED}, "cancelled before it ran"),
    _row("cancel_running", {S.ASSIGNED, S.RUNNING}, {S.CANCELLING}, "its device is told to stop it"),
    _row("cancel_confirmed", {S.CANCELLING}, {S.CANCELLED}, "its device stopped it, or its lease is over"),
    _row(
        "deadline",
        {S.BLOCKED, S.QUEUED, S.RETRYING, S.HELD, S.ASSIGNED, S.RUNNING, S.CANCELLING},
        {S.EXPIRED},
        "its deadline passed",
    ),
)

ALLOWED: dict[str, Transition] = {row.event: row for row in TRANSITIONS}


class IllegalTransition(AssertionError):
    """The scheduler tried a step that the table does not have: a mistake of ours."""


def check_step(event: str, source: State, target: State) -> None:
    """Raise IllegalTransition unless the table allows `event` to take `source` to `target`."""
    row = ALLOWED[event]
    if source not in row.sources or target not in row.targets:
        raise IllegalTransition(f"{event} may not take a task from {source} to {target}")


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the documentation."""
    lines = ["stateDiagram-v2", "    [*] --> queued", "    [*] --> blocked"]
    for row in TRANSITIONS:
        for source in sorted(row.sources):
            lines.extend(f"    {source} --> {target}: {row.event}" for target in sorted(row.targets))
    lines.extend(f"    {state} --> [*]" for state in sorted(FINAL))
    return "\n".join(lines) + "\n"
