"""What the comfort policy remembers through a restart of the worker, in one small file.

A device that paused below 40 % and is to work again above 60 % stays paused at 50 %, also if its worker was killed
meanwhile. The cluster's part of the policy is kept, too: it holds before the main can say it again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.logger import Logger

from retirecluster.domain.fields import Field, MapOf, Number, Record, Text
from retirecluster.domain.policy_fields import POLICY, policy_problems
from retirecluster.worker.data_folder import write_whole

SAME_DAY_S = 86_400.0
"""A time of day without its date (`on battery since 14:02`) means something for so long."""
FILE = Record(
    (
        Field("pausing", MapOf(Text(1000), 512, Text(128, 1)), "rules that pause, and their words", required=True),
        Field("on_battery_since", Text(5), required=True),
        Field("defaults", POLICY, "the cluster's policy", required=True),
        Field("at", Number(), "when it was written, Unix seconds", required=True),
    )
)


@frozen
class Kept:
    """`pausing`: by the name of the rule, its words. `defaults`: the cluster's policy."""

    pausing: Mapping[str, str] = field(factory=dict)
    on_battery_since: str = ""
    defaults: Mapping[str, Any] = field(factory=dict)


@define(eq=False)
class ComfortMemory:
    """The file. `wall` is the time of day in Unix seconds."""

    place: Path
    wall: Callable[[], float]
    log = Logger()
    _saved: Kept | None = field(default=None, init=False)

    def load(self) -> Kept:
        """What was kept; nothing where there is no file, or none that can be understood."""
        try:
            said = json.loads(self.place.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return Kept()
        if not isinstance(said, dict) or FILE.problems(said, "") or policy_problems(said["defaults"]):
            self.log.warn("{place} is not understood and left out", place=self.place)
            return Kept()
        same_day = 0.0 <= self.wall() - said["at"] < SAME_DAY_S
        return Kept(said["pausing"], said["on_battery_since"] if same_day else "", said["defaults"])

    def save(self, kept: Kept) -> None:
        """Write it if anything but the figures in the words has changed: flash wears, and levels change all day."""
        before, self._saved = self._saved, kept
        if before is not None and _shape(before) == _shape(kept):
            return
        said = {"pausing": dict(kept.pausing), "on_battery_since": kept.on_battery_since,
                "defaults": dict(kept.defaults), "at": self.wall()}  # fmt: skip
        try:
            write_whole(self.place, json.dumps(said))
        except OSError as error:
            self.log.warn("{place} cannot be written: {why}", place=self.place, why=str(error))


def _shape(kept: Kept) -> tuple[frozenset[str], str, Mapping[str, Any]]:
    return frozenset(kept.pausing), kept.on_battery_since, kept.defaults
