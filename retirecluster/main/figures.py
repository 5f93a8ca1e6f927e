"""What the main counts and measures while it runs, for graphs. Everything since the start, and nothing on disk.

Rooms are given the one object and tell it what happens; the doors read it. Labels are names of our own tables, never
what a peer says: their number is bounded.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from attrs import define, field

from retirecluster.domain.distribution import ANSWERS_S, LATENCIES_S, Distribution


def _latencies() -> Distribution:
    return Distribution(LATENCIES_S)


def _answers() -> defaultdict[tuple[str, int], Distribution]:
    return defaultdict(lambda: Distribution(ANSWERS_S))


@define(eq=False)
class Figures:
    """Counters, and distributions in seconds. Touched by the reactor's thread alone."""

    messages: Counter[tuple[str, str]] = field(factory=Counter)
    """Of the line protocol, by direction (`in`, `out`) and kind."""
    refused_messages: Counter[str] = field(factory=Counter)
    """Messages answered with an error, by its code."""
    refused_results: Counter[str] = field(factory=Counter)
    """Results that did not count, by the code of the reason."""
    heartbeats: int = 0
    requests: Counter[tuple[str, str, int]] = field(factory=Counter)
    """Answers to HTTP requests, by the path of the route, method and status."""
    answers_s: defaultdict[tuple[str, int], Distribution] = field(factory=_answers)
    """From a whole HTTP request to the head of its answer, by the path of the route and the status' first digit."""
    scheduling_s: Distribution = field(factory=_latencies)
    """From the first event that asked for a turn until its decisions were committed."""
    commit_s: Distribution = field(factory=_latencies)
    """From handing a turn to the database until it was committed, tries again included."""
    lag_s: Distribution = field(factory=_latencies)
    """How much later than due a timer of the reactor ran."""
