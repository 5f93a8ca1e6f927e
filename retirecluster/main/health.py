"""Whether the main works: one check for each thing that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from retirecluster import __version__
from retirecluster.domain.units import format_duration
from retirecluster.main.lag import LagMeter
from retirecluster.main.limits import Limits
from retirecluster.main.scheduler import TaskScheduler

LONGEST_LAG_S = 2.0
LONGEST_WRITE_S = 30.0
"""A transaction that takes longer than this hangs: the disk, or a lock that is never released."""


@frozen
class Check:
    """One check. `problem` is empty while it holds; `figure` is what was looked at, in `unit`."""

    name: str
    problem: str
    figure: float | None
    unit: str
    limit: float | None = None

    def document(self) -> dict[str, Any]:
        """As the doors show it."""
        state = "failing" if self.problem else "ok"
        shown = {"figure": self.figure, "unit": self.unit, "limit": self.limit}
        return {"state": state, "problem": self.problem, **shown}


@define(eq=False)
class Health:
    """Looks when it is asked. `listening` has the ports by name, and whether each is open; empty before the start."""

    desk: TaskScheduler
    lag: LagMeter
    limits: Limits
    listening: dict[str, Callable[[], bool]] = field(factory=dict)

    def document(self) -> dict[str, Any]:
        """All checks as one document: `ok`, or what is wrong."""
        checks = self.checks()
        problems = [each.problem for each in checks if each.problem]
        status = "ok" if not problems else "failing"
        by_name = {each.name: each.document() for each in checks}
        return {"status": status, "problems": problems, "version": __version__, "checks": by_name}

    def hangs(self) -> str:
        """What only a new start of the main can mend; empty if nothing.

        Not so a full disk, a database that another program keeps locked, too many connections, or late answers.
        """
        turns = self.desk.turns
        waits_for_disk = not turns.busy_s() and turns.writing_for_s() > LONGEST_WRITE_S
        return self._store().problem if waits_for_disk else self._closed()

    def checks(self) -> list[Check]:
        """Every check, those that hold included."""
        return [self._store(), self._accepting(), self._disk(), self._listener(), self._lag()]

    def _store(self) -> Check:
        turns = self.desk.turns
        waiting_s = max(turns.busy_s(), turns.writing_for_s())
        problem = ""
        if turns.stopped:
            problem = "the store takes no writes"
        elif turns.busy_s():
            problem = f"another program has kept the database locked for {turns.busy_s():.0f} s"
        elif waiting_s > LONGEST_WRITE_S:
            problem = f"a transaction has been under way for {format_duration(waiting_s)}"
        return Check("store", problem, round(waiting_s, 3), "seconds", LONGEST_WRITE_S)

    def _accepting(self) -> Check:
        return Check("accepting", "" if self.desk.accepting else "stopping", float(self.desk.accepting), "boolean")

    def _disk(self) -> Check:
        space = self.desk.space
        problem = space.problem()
        free = space.free()
        shown = f"no new tasks are taken in: {problem}" if problem else ""
        return Check("disk", shown, free, "bytes", space.min_free_bytes)

    def _listener(self) -> Check:
        count, most = self.limits.open.total(), self.limits.total
        problem = self._closed()
        if not problem and count >= most:
            problem = f"all {most} connections for devices are taken; max_connections allows more"
        return Check("listener", problem, count, "connections", most)

    def _closed(self) -> str:
        closed = [name for name, is_open in self.listening.items() if not is_open()]
        return f"nobody listens on {' and '.join(closed)}" if closed else ""

    def _lag(self) -> Check:
        worst_s = self.lag.worst_s()
        late = worst_s > LONGEST_LAG_S
        problem = f"answers were up to {worst_s:.1f} s late in the last ten seconds" if late else ""
        return Check("lag", problem, round(worst_s, 4), "seconds", LONGEST_LAG_S)
