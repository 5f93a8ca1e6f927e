"""Signs of life, and their absence."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from retirecluster.domain.audit import actor_of, short
from retirecluster.domain.devices import known_metrics
from retirecluster.domain.fields import Problem
from retirecluster.domain.history import History
from retirecluster.domain.lifecycle import FINAL
from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.main.events import EventBus
from retirecluster.main.figures import Figures
from retirecluster.main.pulse import Pulse
from retirecluster.main.registry import DeviceRegistry
from retirecluster.main.turns import Turns
from retirecluster.wire.messages import MAX_LEFT_OUT, Message

log = Logger()
RATE_WINDOW = 60
"""Samples, one a tick, over which throughput is shown."""


@define(eq=False)
class HeartbeatMonitor:
    """Takes in heartbeats; at each tick looks for silent devices and leases that are over."""

    scheduler: Scheduler
    registry: DeviceRegistry
    turns: Turns
    events: EventBus
    clock: IReactorTime
    moment: Callable[[], Moment]
    history: History
    figures: Figures
    tick_s: float = 1.0
    ended_samples: deque[tuple[float, int]] = field(factory=lambda: deque(maxlen=RATE_WINDOW))
    pulse: Pulse = field(factory=Pulse)
    errors: int = 0
    _loop: LoopingCall | None = None

    def start(self) -> None:
        loop = LoopingCall(self._supervised_tick)
        loop.clock = self.clock
        loop.start(self.tick_s, now=False)
        self._loop = loop

    def stop(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def process_heartbeat(self, device_id: str, message: Message) -> dict[str, Any]:
        """Take in a heartbeat; returns the data of its answer. Raises ClusterError."""
        data = message.data
        metrics: Mapping[str, Any] = known_metrics(data.get("system_metrics") or {})
        named = data.get("attempts")
        keys = None if named is None else [(each["task_id"], each["epoch"]) for each in named]
        device = self.registry.get(device_id)
        now = self.moment()
        renewed, stop = self.scheduler.heartbeat(device, metrics, keys, now)
        self.figures.heartbeats += 1
        self.history.add(device_id, metrics, len(device.attempts), now.mono_s)
        if self.events.watchers:
            told = {"device_id": device_id, "event": "heartbeat", "system_metrics": metrics, "status": device.status}
            self.events.tell("heartbeat", told, device_id=device_id)
        self.registry.claims_refused(device, len(keys or ()), stop, late_is_fine=True)
        if message.left_out:
            fields = [short(each.path) for each in message.left_out[:MAX_LEFT_OUT]]
            self.scheduler.ledger.audit_refusal(
                now, actor_of(device_id, ""), "report.left_out", device_id, fields=fields
            )
        self.turns.ask_lazily()
        return {
            "renewed": attempts_json(renewed),
            "stop": stopped_json(stop, self.scheduler),
            "lease_s": self.scheduler.settings.lease_s,
        } | ({"left_out": left_out_json(message.left_out)} if message.left_out else {})

    def check_device_timeouts(self) -> list[str]:
        """Devices that are offline from now on; their connections are ended."""
        found = self.scheduler.silent_devices(self.moment())
        for device in found:
            self.registry.mark_device_offline(device.device_id, device.reason)
        return [device.device_id for device in found]

    def update_cluster_metrics(self) -> None:
        """Sample how many tasks have ended, wait and run."""
        counts = self.scheduler.ledger.counts
        ended = sum(counts[state] for state in FINAL) + self.scheduler.ledger.forgotten
        now = self.moment()
        self.ended_samples.append((now.mono_s, ended))
        self.pulse.beat(self.scheduler.ledger, now)

    def throughput_per_s(self) -> float:
        """Tasks ended a second, over the last minute or so."""
        samples = self.ended_samples
        if len(samples) < 2 or samples[-1][0] <= samples[0][0]:
            return 0.0
        return (samples[-1][1] - samples[0][1]) / (samples[-1][0] - samples[0][0])

    def _supervised_tick(self) -> None:
        # A LoopingCall that raises stops for good.
        try:
            self._tick()
        except Exception:
            self.errors += 1
            log.failure("a tick of the heartbeat monitor failed")

    def _tick(self) -> None:
        self.check_device_timeouts()
        self.scheduler.check_leases(self.moment())
        self.update_cluster_metrics()
        if not self.scheduler.ledger.turn.empty:
            self.turns.ask()


def attempts_json(keys: list[tuple[str, int]]) -> list[dict[str, Any]]:
    """(task_id, epoch) pairs as messages have them."""
    return [{"task_id": task_id, "epoch": epoch} for task_id, epoch in keys]


def stopped_json(keys: list[tuple[str, int]], scheduler: Scheduler) -> list[dict[str, Any]]:
    """The same for attempts that are to be stopped; `final` where nothing of the task follows."""
    return [{"task_id": task_id, "epoch": epoch, "final": scheduler.task(task_id) is None} for task_id, epoch in keys]


def left_out_json(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """What of a heartbeat was not taken in, by field."""
    return [{"field": each.path[:400], "message": each.message[:2000]} for each in problems[:MAX_LEFT_OUT]]
