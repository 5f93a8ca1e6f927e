"""The demo while it runs: one bar for all, one line for each device; plain lines where nothing can be redrawn."""

from __future__ import annotations

from typing import Any

from retirecluster.client.console import Console
from retirecluster.client.live import LiveLines, bar
from retirecluster.client.tracking import TaskTracker
from retirecluster.domain.lifecycle import FINAL
from retirecluster.render.cells import pad, text_width

BAR_CELLS = 30
PLAIN_EVERY_S = 2.0
_RUNNING = frozenset({"running", "cancelling"})


class DemoProgress:
    """Shows a tracker's tasks by device."""

    def __init__(self, console: Console, tracker: TaskTracker, device_ids: list[str], clock: Any) -> None:
        self._console = console
        self._tracker = tracker
        self._device_ids = device_ids
        self._clock = clock
        self._live = LiveLines(console)
        self._began = clock.seconds()
        self._told_at = self._began
        self._told_ended = -1

    def show(self) -> None:
        """Redraw, or say a line now and then."""
        if self._console.live:
            self._live.draw(self.lines())
        else:
            self._say_sometimes()

    def finish(self) -> None:
        """Leave the last picture standing."""
        if self._console.live:
            self._live.draw(self.lines())
        self._live.finish()

    def lines(self) -> list[str]:
        """The picture as it is now."""
        names = max(text_width(name) for name in [*self._device_ids, "all"])
        total, ended = self._tracker.total, self._tracker.ended
        seconds = self._clock.seconds() - self._began
        lines = [f"  {pad('all', names)}  {bar(ended, total, BAR_CELLS)}  {ended:>4} of {total} done  {seconds:5.1f} s"]
        counted = self.by_device()
        for name in self._device_ids:
            done, running = counted.get(name, (0, 0))
            doing = f"  {running} running" if running else ""
            lines.append(f"  {pad(name, names)}  {bar(done, total, BAR_CELLS)}  {done:>4} done{doing}")
        return lines

    def by_device(self) -> dict[str, tuple[int, int]]:
        """(done, running) of each device that was heard of."""
        counted: dict[str, tuple[int, int]] = {}
        for seen in self._tracker.seen.values():
            if seen.device_id is not None:
                done, running = counted.get(seen.device_id, (0, 0))
                counted[seen.device_id] = (done + (seen.status in FINAL), running + (seen.status in _RUNNING))
        return counted

    def _say_sometimes(self) -> None:
        now, ended, total = self._clock.seconds(), self._tracker.ended, self._tracker.total
        if ended == self._told_ended or (now - self._told_at < PLAIN_EVERY_S and ended < total):
            return
        self._told_at, self._told_ended = now, ended
        devices = ", ".join(f"{name} {done}" for name, (done, _) in sorted(self.by_device().items()))
        self._console.line(
            f"  {ended} of {total} done after {now - self._began:.1f} s" + (f" ({devices})" if devices else "")
        )
        self._console.out.flush()
