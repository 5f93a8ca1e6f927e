"""Which warm process a task goes to: a lane is one slot that tasks of one submitter and one set of limits follow
each other in. Pure.

Short tasks are given to a lane ahead of their turn, so that its process never waits for the next one. Where that
turns out wrong, because one of them takes long, those that have not begun are called back.
"""

from __future__ import annotations

from attrs import define, field

AHEAD = 16
"""How many tasks a lane may hold, the one that runs included."""
SHORT_S = 0.01
"""Tasks are given ahead while they take less than this on average."""
STUCK_S = 0.25
"""After so long with the same task, those behind it are called back."""
KEPT_KEYS = 64


@define(eq=False)
class Lane:
    """`name` is what the runner knows it by; `holds` are the numbers of its attempts, the one that runs first."""

    key: str
    name: str
    holds: dict[int, None] = field(factory=dict)
    moved_at: float = 0.0
    """When an attempt last came to an empty lane, or left it (monotonic seconds)."""
    called_back: bool = False

    def is_first(self, number: int) -> bool:
        """Whether this attempt is the one that runs; those after it wait."""
        return next(iter(self.holds), None) == number


@define(eq=False)
class Lanes:
    """All lanes of a worker, by what their tasks have in common."""

    _lanes: dict[str, list[Lane]] = field(factory=dict)
    _mean_s: dict[str, float] = field(factory=dict)
    ahead: int = 0
    """How many attempts have been given ahead: they hold no slot of their own."""

    def take(self, key: str, number: int, now: float, *, slot: bool, ahead: bool) -> Lane | None:
        """The lane for one more attempt: an empty one if there is a free `slot`, else one it may wait in, or None."""
        lanes = self._lanes.get(key)
        if lanes is None:
            self._make_room()
            lanes = self._lanes[key] = []
        lane = self._empty(key, lanes) if slot else self._with_room(key, lanes) if ahead else None
        if lane is None:
            return None
        if lane.holds:
            self.ahead += 1
        else:
            lane.moved_at = now
        lane.holds[number] = None
        return lane

    def leave(self, lane: Lane, number: int, now: float, wall_s: float | None = None) -> None:
        """An attempt is over, after `wall_s` if it ran, or was called back."""
        if number not in lane.holds:
            return
        del lane.holds[number]
        if lane.holds:
            self.ahead -= 1
        if wall_s is not None:
            lane.moved_at, lane.called_back = now, False
            known = self._mean_s.get(lane.key, wall_s)
            self._mean_s[lane.key] = 0.7 * known + 0.3 * wall_s

    def stuck(self, now: float) -> list[Lane]:
        """Lanes whose first task keeps others waiting; each is told once for that task."""
        found = [
            lane
            for lanes in self._lanes.values()
            for lane in lanes
            if len(lane.holds) > 1 and not lane.called_back and now - lane.moved_at >= STUCK_S
        ]
        for lane in found:
            lane.called_back = True
        return found

    @staticmethod
    def _empty(key: str, lanes: list[Lane]) -> Lane:
        lane = next((each for each in lanes if not each.holds), None)
        if lane is None:
            lane = Lane(key, f"{key}/{len(lanes)}")
            lanes.append(lane)
        return lane

    def _with_room(self, key: str, lanes: list[Lane]) -> Lane | None:
        if self._mean_s.get(key, SHORT_S) >= SHORT_S:
            return None
        open_ones = [each for each in lanes if 0 < len(each.holds) < AHEAD and not each.called_back]
        return min(open_ones, key=lambda each: len(each.holds), default=None)

    def _make_room(self) -> None:
        if len(self._lanes) >= KEPT_KEYS:
            for key in [key for key, lanes in self._lanes.items() if not any(each.holds for each in lanes)]:
                del self._lanes[key]
                self._mean_s.pop(key, None)
