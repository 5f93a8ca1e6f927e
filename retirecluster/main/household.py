"""What a household says to its cluster: signals from outside, quiet hours, a device borrowed by its owner.

All of it is on disk before it is answered, and holds again after a restart. Devices are told at once, and whenever they
register; they get durations, as their clocks may be wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from retirecluster.domain.audit import ADMIN, Actor, AuditEntry
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.policy import CONTINUE
from retirecluster.domain.scheduler import Moment, Scheduler
from retirecluster.domain.scheduler.picture import Rest
from retirecluster.domain.units import format_duration, format_instant
from retirecluster.main.registry import DeviceRegistry
from retirecluster.main.turns import Turns
from retirecluster.store import household as rows
from retirecluster.store.database import Database

log = Logger()
MAX_SIGNALS = 256
LONGEST_S = 31 * 86_400.0
NO_REST = {"for_s": 0, "running": CONTINUE}


@frozen
class Signal:
    """A signal that holds. `until_mono_s` decides, `until_at` (Unix seconds) is shown."""

    value: float
    set_at: float
    until_at: float
    until_mono_s: float


@define(eq=False)
class Household:
    """Signals and rests of this cluster. `policy` are the defaults that devices' owners may overrule."""

    database: Database
    scheduler: Scheduler
    registry: DeviceRegistry
    turns: Turns
    clock: IReactorTime
    moment: Callable[[], Moment]
    policy: Mapping[str, Any] | None = None
    _signals: dict[str, Signal] = field(factory=dict, init=False)
    _ends: dict[str, IDelayedCall] = field(factory=dict, init=False)

    def restore(self, signals: list[rows.SignalRow], rests: list[rows.RestRow]) -> None:
        """Take in what the store holds, before anything is served."""
        now = self.moment()
        for signal in signals:
            left_s = _left_s(signal.set_at, signal.until_at, now)
            if left_s > 0:
                self._keep_signal(signal, now.mono_s + left_s)
        for rest in rests:
            left_s = _left_s(rest.set_at, rest.until_at, now)
            if left_s > 0 and (rest.device_id == rows.ALL or rest.device_id in self.scheduler.devices):
                kept = Rest(rest.reason, rest.running, now.mono_s + left_s)
                self.scheduler.pauses.restored(rest.device_id or None, kept)

    def start(self) -> None:
        """Watch for the end of what was restored."""
        pauses, now = self.scheduler.pauses, self.moment()
        for device_id, rest in [*pauses.borrowed.items(), *([(rows.ALL, pauses.quiet)] if pauses.quiet else [])]:
            left_s = max(0.0, rest.until_mono_s - now.mono_s)
            self._ends[device_id] = self.clock.callLater(left_s, self._over, device_id)

    def stop(self) -> None:
        """No more timers."""
        for call in self._ends.values():
            call.cancel()
        self._ends.clear()

    def welcome(self, device_id: str) -> dict[str, Any]:
        """What a device that registers is told, as fields of `register_ack`."""
        if not self.scheduler.devices[device_id].heeds:
            return {}
        said: dict[str, Any] = {"signals": self._signals_message(), "rest": self._rest_message(device_id)}
        return said | ({} if self.policy is None else {"policy": dict(self.policy)})

    # Signals

    def signals(self) -> list[dict[str, Any]]:
        """All that hold, by name."""
        now = self.moment()
        self._drop_past(now)
        return [self._signal_document(name, now) for name in sorted(self._signals)]

    def signal(self, name: str) -> dict[str, Any]:
        """One of them. Raises ClusterError not_found."""
        now = self.moment()
        self._drop_past(now)
        if name not in self._signals:
            raise ClusterError("not_found", f"there is no signal {name} that still holds")
        return self._signal_document(name, now)

    async def set_signal(self, name: str, value: float, ttl_s: float, by: Actor = ADMIN) -> dict[str, Any]:
        """Set it for `ttl_s` seconds; on disk, and told to the devices, when this returns. Raises conflict."""
        now = self.moment()
        self._drop_past(now)
        if name not in self._signals and len(self._signals) >= MAX_SIGNALS:
            raise ClusterError("conflict", f"there are {MAX_SIGNALS} signals already: remove one first")
        row = rows.SignalRow(name, float(value), now.wall_s, now.wall_s + ttl_s)
        self.turns.check_free()
        told = _told(now, by, "signal.set", name, value=row.value, for_s=ttl_s, until=format_instant(row.until_at))
        await self.database.change(rows.put_signal_txn, row, told)
        self._keep_signal(row, now.mono_s + ttl_s)
        self._tell_signals()
        return self._signal_document(name, now)

    async def remove_signal(self, name: str, by: Actor = ADMIN) -> None:
        """Remove it. Raises ClusterError not_found."""
        self.signal(name)
        self.turns.check_free()
        told = _told(self.moment(), by, "signal.remove", name)
        await self.database.change(rows.remove_signal_txn, name, told)
        self._signals.pop(name, None)
        self._tell_signals()

    def _keep_signal(self, row: rows.SignalRow, until_mono_s: float) -> None:
        self._signals[row.name] = Signal(row.value, row.set_at, row.until_at, until_mono_s)

    def _drop_past(self, now: Moment) -> None:
        for name in [name for name, each in self._signals.items() if each.until_mono_s <= now.mono_s]:
            del self._signals[name]

    def _signal_document(self, name: str, now: Moment) -> dict[str, Any]:
        each = self._signals[name]
        return {
            "name": name,
            "value": each.value,
            "set_at": format_instant(each.set_at),
            "until": format_instant(each.until_at),
            "ttl_s": round(max(0.0, each.until_mono_s - now.mono_s), 3),
        }

    def _signals_message(self) -> dict[str, Any]:
        now = self.moment()
        self._drop_past(now)
        return {
            name: {"value": each.value, "ttl_s": round(each.until_mono_s - now.mono_s, 3)}
            for name, each in self._signals.items()
        }

    def _tell_signals(self) -> None:
        # Not held back by a comparison: a new time to live is news, too.
        self.registry.broadcast_message("signals", {"signals": self._signals_message()}, self._heeding())

    def _heeding(self) -> list[str]:
        devices = self.scheduler.devices
        return [device_id for device_id in self.registry.sessions if devices[device_id].heeds]

    # Rest

    def quiet(self) -> dict[str, Any] | None:
        """The quiet that holds for all, or None."""
        rest = self.scheduler.pauses.quiet
        return None if rest is None else self._rest_document(rest)

    def rest_of(self, device_id: str) -> dict[str, Any] | None:
        """What holds for a device, or None."""
        rest = self.scheduler.pauses.rest_of(device_id)
        return None if rest is None else self._rest_document(rest)

    async def keep_quiet(self, for_s: float, running: str, reason: str, by: Actor = ADMIN) -> dict[str, Any]:
        """Give no device anything new for so long; `running` is what becomes of running tasks."""
        words = f"the cluster is quiet{_until(self.moment(), for_s)}"
        return await self._rest(rows.ALL, words, for_s, running, reason, by)

    async def borrow(
        self, device_id: str, for_s: float, running: str, reason: str, by: Actor = ADMIN
    ) -> dict[str, Any]:
        """Leave a device to its owner for so long. Raises ClusterError not_found."""
        self.registry.get(device_id)
        words = f"borrowed by its owner{_until(self.moment(), for_s)}"
        return await self._rest(device_id, words, for_s, running, reason, by)

    async def end_rest(self, device_id: str = rows.ALL, by: Actor = ADMIN) -> None:
        """End the quiet, or give a device back. What is not, ends without complaint."""
        self.turns.check_free()
        action = "cluster.quiet_end" if device_id == rows.ALL else "device.give_back"
        await self.database.change(rows.remove_rest_txn, device_id, _told(self.moment(), by, action, device_id))
        self._over(device_id)
        await self.turns.answered()

    async def _rest(
        self, device_id: str, words: str, for_s: float, running: str, reason: str, by: Actor
    ) -> dict[str, Any]:
        now = self.moment()
        words += f": {reason}" if reason else ""
        row = rows.RestRow(device_id, words, running, now.wall_s, now.wall_s + for_s)
        self.turns.check_free()
        action = "cluster.quiet" if device_id == rows.ALL else "device.borrow"
        detail = {"for_s": for_s, "until": format_instant(row.until_at), "running": running, "reason": reason}
        await self.database.change(rows.put_rest_txn, row, _told(now, by, action, device_id, **detail))
        self._begin(row, for_s)
        self._tell_rest(device_id)
        await self.turns.answered()
        rest = self.scheduler.pauses.rest_of(device_id)
        return {} if rest is None else self._rest_document(rest)

    def _begin(self, row: rows.RestRow, left_s: float) -> None:
        now = self.moment()
        self._cancel(row.device_id)
        self._ends[row.device_id] = self.clock.callLater(left_s, self._over, row.device_id)
        rest = Rest(row.reason, row.running, now.mono_s + left_s)
        if row.device_id == rows.ALL:
            self.scheduler.pauses.set_quiet(rest, now)
        else:
            self.scheduler.pauses.set_borrowed(self.scheduler.devices[row.device_id], rest, now)
        self.turns.ask()

    def _over(self, device_id: str) -> None:
        """It ends. The row stays if its time was over: the next start sees that."""
        self._cancel(device_id)
        pauses, device = self.scheduler.pauses, self.scheduler.devices.get(device_id)
        if device_id == rows.ALL and pauses.quiet is not None:
            pauses.set_quiet(None, self.moment())
        elif device is not None and device_id in pauses.borrowed:
            pauses.set_borrowed(device, None, self.moment())
        else:
            return
        self._tell_rest(device_id)
        self.turns.ask()

    def _cancel(self, device_id: str) -> None:
        call = self._ends.pop(device_id, None)
        if call is not None and call.active():
            call.cancel()

    def _tell_rest(self, device_id: str) -> None:
        for each in self._heeding():
            if device_id in (rows.ALL, each):
                self.registry.broadcast_message("rest", self._rest_message(each), [each])

    def _rest_message(self, device_id: str) -> dict[str, Any]:
        first, *also = [self._rest_data(each) for each in self.scheduler.pauses.rests_of(device_id)] or [NO_REST]
        return first | ({"also": also} if also else {})

    def _rest_data(self, rest: Rest) -> dict[str, Any]:
        left_s = max(0.001, rest.until_mono_s - self.moment().mono_s)
        return {"for_s": round(left_s, 3), "running": rest.running, "reason": rest.reason[:1000]}

    def _rest_document(self, rest: Rest) -> dict[str, Any]:
        now = self.moment()
        left_s = max(0.0, rest.until_mono_s - now.mono_s)
        return {
            "reason": rest.reason,
            "running": rest.running,
            "until": format_instant(now.wall_s + left_s),
            "for_s": round(left_s, 3),
        }


def _told(now: Moment, by: Actor, action: str, subject: str, **detail: Any) -> AuditEntry:
    return AuditEntry.by(by, now.wall_s, action, subject, detail)


def _left_s(set_at: float, until_at: float, now: Moment) -> float:
    """How long something still holds, never longer than it was meant to, whatever the clock did."""
    return min(until_at - now.wall_s, until_at - set_at)


def _until(now: Moment, for_s: float) -> str:
    shown = (format_instant(now.wall_s + for_s) or "")[:16].replace("T", " ")
    return f" for {format_duration(for_s)}, until {shown} UTC"
