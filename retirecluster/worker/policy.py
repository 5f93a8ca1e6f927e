"""The owner's comfort policy at work: looks at the device now and then, decides, and has it work or pause.

The rules are the domain's (`decide`). This is the one place that knows what they are fed with: the owner's policy over
the cluster's defaults, the monitor's readings, the signals that the main sends, and a person's wish for rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from attrs import define, evolve, field, frozen
from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain.policy import CONTINUE, Order, Policy, Readings, State, Verdict, decide, merged
from retirecluster.domain.policy_fields import policy_problems
from retirecluster.worker.agent import Agent

RETOLD_LOOKS = 6
"""The main is told that the words of a reason have changed (31 %, 30 %, ...) at most once in so many looks."""
REASON_CHARS = 900
Metrics = Mapping[str, Any]


@frozen
class Rest:
    """A person's wish, until `until` (monotonic seconds)."""

    order: Order
    until: float


@define(eq=False)
class Comfort:
    """Has the agent work or pause. `local` gives the time on the wall in a zone (None: the device's own); it raises
    LookupError or ValueError for a zone that is not known here. `limit_cpus` has tasks use a part of the processors.
    """

    clock: IReactorTime
    agent: Agent
    owner: Mapping[str, Any]
    read: Callable[[], Awaitable[Metrics]]
    local: Callable[[str | None], datetime]
    limit_cpus: Callable[[float | None], None]
    every_s: float
    log = Logger()
    verdict: Verdict = field(default=Verdict(False, "", 0.0, CONTINUE), init=False)
    _policy: Policy = field(default=Policy(), init=False)
    _state: State = field(factory=State, init=False)
    _defaults: Mapping[str, Any] = field(factory=dict, init=False)
    _signals: dict[str, tuple[float, float]] = field(factory=dict, init=False)
    _rest: Rest | None = field(default=None, init=False)
    _loop: LoopingCall | None = field(default=None, init=False)
    _busy: bool = field(default=False, init=False)
    _again: bool = field(default=False, init=False)
    _told_at: float = field(default=0.0, init=False)
    _told_reason: str = field(default="", init=False)
    _registered_as: tuple[bool, str] = field(default=(False, CONTINUE), init=False)

    def __attrs_post_init__(self) -> None:
        self._take(self.owner)

    # Life

    def start(self) -> None:
        """Look at once, and from then on."""
        self._loop = LoopingCall(self.look)
        self._loop.clock = self.clock
        self._loop.start(self.every_s)

    def stop(self) -> None:
        """Look no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    # What the main says

    def welcomed(self, data: Mapping[str, Any]) -> None:
        """The data of `register_ack`: the cluster's defaults, signals and a wish for rest, or none of them."""
        defaults = data.get("policy") or {}
        if problems := policy_problems(defaults):
            self.log.warn("the cluster's policy is not followed: {why}", why=str(problems[0]))
            defaults = {}
        if defaults != self._defaults:
            self._defaults = defaults
            self._take(merged(defaults, self.owner))
        self._note_signals(data.get("signals") or {})
        self._note_rest(data.get("rest"))
        if self._kind(self.verdict) != self._registered_as:  # it changed while the registration was under way
            self._tell()
        self.look()

    def signalled(self, signals: Mapping[str, Mapping[str, float]]) -> None:
        """All signals that hold now: name to value and time to live."""
        self._note_signals(signals)
        self.look()

    def rest(self, data: Mapping[str, Any]) -> None:
        """The data of `rest`."""
        self._note_rest(data)
        self.look()

    def registering(self) -> dict[str, Any]:
        """How it stands, for the message `register`."""
        self._registered_as, self._told_reason = self._kind(self.verdict), self.verdict.reason
        return self.availability()

    @staticmethod
    def _kind(verdict: Verdict) -> tuple[bool, str]:
        return verdict.paused, verdict.running

    def _tell(self) -> None:
        self._told_at, self._told_reason = self.clock.seconds(), self.verdict.reason
        self.agent.say_availability(self.availability())

    def availability(self) -> dict[str, Any]:
        """How it stands, as the message `availability` tells it."""
        verdict = self.verdict
        state = "paused" if verdict.paused else "available"
        since_s = 0.0 if self._state.since is None else self.clock.seconds() - self._state.since
        said: dict[str, Any] = {"state": state, "since_s": round(max(0.0, since_s), 1)}
        return said | ({"reason": verdict.reason, "running": verdict.running} if verdict.paused else {})

    def _take(self, document: Mapping[str, Any]) -> None:
        self._policy = Policy.from_document(document)
        self.limit_cpus(self._policy.max_cpu_share)

    def _note_signals(self, signals: Mapping[str, Mapping[str, float]]) -> None:
        now = self.clock.seconds()
        self._signals = {name: (each["value"], now + each["ttl_s"]) for name, each in signals.items()}

    def _note_rest(self, data: Mapping[str, Any] | None) -> None:
        if not data or data["for_s"] <= 0:
            self._rest = None
            return
        order = Order(data.get("reason") or "a person wants it left alone", data["running"])
        self._rest = Rest(order, self.clock.seconds() + data["for_s"])

    # Deciding

    def look(self) -> None:
        """Read, decide, and act; never fails, and never twice at a time."""
        if self._busy:
            self._again = True
            return
        self._busy = True
        ensureDeferred(self._look()).addErrback(self._failed).addBoth(self._looked)

    def _failed(self, failure: Failure) -> None:
        self.log.failure("the policy could not be looked at; the next look follows", failure)

    def _looked(self, _: object) -> None:
        self._busy = False
        if self._again:
            self._again = False
            self.look()

    async def _look(self) -> None:
        # Without rules nothing has to be read.
        metrics = await self.read() if self._policy.rules else {}
        now = self.clock.seconds()
        readings = self._readings(metrics, now)
        self._state, verdict = decide(self._policy, self._state, readings, now)
        self._act(evolve(verdict, reason=verdict.reason[:REASON_CHARS]), now)

    def _readings(self, metrics: Metrics, now: float) -> Readings:
        if self._rest is not None and now >= self._rest.until:
            self._rest = None
        orders = () if self._rest is None else (self._rest.order,)
        signals = {name: value for name, (value, until) in self._signals.items() if now < until}
        running = 0 if self.agent.executor.suspended else self.agent.executor.active
        found = readings_of(metrics, self._local(), running)
        return evolve(found, signals=signals, orders=orders)

    def _local(self) -> datetime | None:
        try:
            return self.local(self._policy.zone)
        except (LookupError, ValueError, OSError) as error:
            self.log.debug("the local time is not known: {why}", why=str(error))
            return None

    def _act(self, verdict: Verdict, now: float) -> None:
        before, self.verdict = self.verdict, verdict
        changed = self._kind(verdict) != self._kind(before)
        if changed and verdict.paused:
            self.log.info("paused: {why}; running tasks: {running}", why=verdict.reason, running=verdict.running)
            self.agent.pause(verdict.reason, verdict.running)
        elif changed:
            self.log.info("works again")
            self.agent.unpause()
        elif verdict.paused:
            self.agent.paused = verdict.reason
        reworded = verdict.reason != self._told_reason and now - self._told_at >= RETOLD_LOOKS * self.every_s
        if changed or reworded:
            self._tell()


def readings_of(metrics: Metrics, local: datetime | None, running: int) -> Readings:
    """What the rules look at, from the monitor's metrics. `running` tasks of ours are no load of others."""
    battery = metrics.get("battery") or {}
    load = (metrics.get("load_average") or [None])[0]
    heats = [each for each in (metrics.get("temperature"), battery.get("temperature_c")) if each is not None]
    return Readings(
        charging=battery.get("charging"),
        battery_percent=battery.get("level"),
        temperature_c=max(heats, default=None),
        local=local,
        owner_away_s=metrics.get("owner_away_s"),
        load=None if load is None else max(0.0, load - running),
        metered=metrics.get("metered"),
    )
