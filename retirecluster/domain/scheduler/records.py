"""Why tasks are where they are: for each of the last grants, the devices that could have had it, with their scores.

In memory and bounded: the last `KEPT` tasks, and at most `EACH_S` grants a second in full, as looking at ten devices
costs more than a grant. A burst beyond that keeps the name of the winner alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from retirecluster.domain.scheduler.picture import Moment, Task
from retirecluster.domain.scheduler.scoring import Strategy

KEPT = 2000
SHOWN = 10
EACH_S = 50.0


@frozen
class Candidate:
    """A device that had room for the task. `factors` as they were, before the strategy weighs them.

    `score` None and no factors: so much was granted at once that they were not kept.
    """

    device_id: str
    score: float | None
    factors: Mapping[str, float]


@frozen
class Record:
    """One grant: the winner first, of `fitting` devices that have what the task asks for.

    `whole` says whether the other candidates were kept, too.
    """

    epoch: int
    strategy: str
    weights: Mapping[str, float]
    candidates: tuple[Candidate, ...]
    fitting: int
    whole: bool
    waited_s: float = 0.0

    def document(self) -> dict[str, Any]:
        """As the doors show it."""
        return {
            "epoch": self.epoch,
            "strategy": self.strategy,
            "weights": dict(self.weights),
            "candidates": [
                {
                    "device_id": each.device_id,
                    "score": None if each.score is None else _short(each.score),
                    "factors": {name: _short(value) for name, value in each.factors.items()},
                }
                for each in self.candidates
            ],
            "others": self.fitting - len(self.candidates),
            "why": self.why(),
            "waited_s": round(self.waited_s, 3),
        }

    def why(self) -> str:
        """Why the winner won, in one sentence."""
        winner, *rest = self.candidates
        waited = f", which it waited for {self.waited_s:.1f} s" if self.waited_s else ""
        if not self.whole:
            return (
                f"{winner.device_id} had the highest score; so much was granted at once that the scores were not kept"
            )
        if not rest:
            return f"{winner.device_id} was the only device with room{waited}"
        second = rest[0]
        if second.score == winner.score:
            return f"{winner.device_id} and {second.device_id} were equally good{waited}"
        return f"{winner.device_id} was ahead of {second.device_id} by {self._ahead(winner, second)}{waited}"

    def _ahead(self, winner: Candidate, second: Candidate) -> str:
        """The factors that spoke most for the winner, as `speed (2.1 against 0.5)`."""
        gains = []
        for name, weight in self.weights.items():
            mine, its = winner.factors.get(name, 1.0), second.factors.get(name, 1.0)
            gain = (mine / its) ** weight
            if gain > 1.001:
                gains.append((gain, f"{name} ({_short(mine):g} against {_short(its):g})"))
        return " and ".join(words for _, words in sorted(gains, reverse=True)[:2]) or "a little of everything"


def _short(value: float) -> float:
    return float(f"{value:.4g}")


@define(eq=False)
class Records:
    """The last ones, by task id."""

    _kept: OrderedDict[str, Record | tuple[int, str, Strategy, int]] = field(factory=OrderedDict)
    """Records, or what one of a winner alone is made from when somebody asks."""
    _budget: float = EACH_S
    _at_mono_s: float = 0.0

    def of(self, task_id: str) -> Record | None:
        """Of the task's last grant, while it is remembered."""
        kept = self._kept.get(task_id)
        if not isinstance(kept, tuple):
            return kept
        epoch, device_id, strategy, fitting = kept
        winner = Candidate(device_id, None, {})
        return Record(epoch, strategy.name, strategy.weights, (winner,), fitting, whole=False)

    def affords(self, now: Moment) -> bool:
        """Whether another grant can be kept in full."""
        passed_s = max(0.0, now.mono_s - self._at_mono_s)
        self._budget, self._at_mono_s = min(EACH_S, self._budget + passed_s * EACH_S), now.mono_s
        if self._budget < 1:
            return False
        self._budget -= 1
        return True

    def keep(self, task: Task, record: Record) -> None:
        """Remember a grant."""
        self._keep(task.task_id, record)

    def keep_winner(self, task: Task, device_id: str, strategy: Strategy, fitting: int) -> None:
        """Remember of a grant who got it, and no more."""
        self._keep(task.task_id, (task.epoch + 1, device_id, strategy, fitting))

    def _keep(self, task_id: str, kept: Record | tuple[int, str, Strategy, int]) -> None:
        self._kept[task_id] = kept
        self._kept.move_to_end(task_id)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
