"""The owner's comfort policy at work: looks at the device now and then, decides, and has it work or pause.

The rules are the domain's (`decide`). This is the one place that knows what they are fed with: the owner's policy over
the cluster's defaults, the monitor's readings, the signals that the main sends, and a person's wish for rest.

A device whose policy has rules is not offered before it was looked at: until then, and until each program that a rule
needs has answered or run out of time, it says that it is paused.
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

from retirecluster.domain.policy import (
    BATTERY,
    CONTINUE,
    NETWORK,
    OWNER,
    POWER,
    SIGNAL,
    TEMPERATURE,
    Asking,
    Order,
    Policy,
    Readings,
    State,
    Verdict,
    decide,
    merged,
    remembered,
)
from retirecluster.domain.policy_fields import policy_problems, policy_words
from retirecluster.worker.agent import Agent
from retirecluster.worker.comfort_memory import ComfortMemory, Kept

RETOLD_LOOKS = 6
"""The main is told that the words of a reason have changed (31 %, 30 %, ...) at most once in so many looks."""
Cause = tuple[bool, str, tuple[str, ...], tuple[Asking, ...], bool]
"""Whether it is paused and what tasks do, people's words, the rules that ask for a pause, and whether all have
only just been content: told when it changes."""
REASON_CHARS = 900
LOOKS_FIRST = "its owner's policy is looked at first"
NEEDS = {
    "battery": {POWER, BATTERY, TEMPERATURE},
    "firmware_temperature": {TEMPERATURE},
    "owner": {OWNER},
    "metered": {NETWORK},
}
"""Which rules look at what a probe of the monitor says that may take its time."""
OWN_LOAD = "own_load"
"""Among the metrics: the part of the load average that is the cluster's own."""
Metrics = Mapping[str, Any]


@frozen
class Rest:
    """A person's wish, until `until` (monotonic seconds)."""

    order: Order
    until: float


@define(eq=False)
class Comfort:
    """Has the agent work or pause. `local` gives the time on the wall in a zone (None: the device's own); it raises
    LookupError or ValueError for a zone that is not known here. `limit_cpus` has tasks use a part of the processors;
    True: the device offers another number of slots now, which `offer_anew` tells the main. `pending` names the probes
    that have not answered for the first time yet.
    """

    clock: IReactorTime
    agent: Agent
    owner: Mapping[str, Any]
    read: Callable[[], Awaitable[Metrics]]
    local: Callable[[str | None], datetime]
    limit_cpus: Callable[[float | None], bool | None]
    every_s: float
    pending: Callable[[], frozenset[str]] = frozenset
    memory: ComfortMemory | None = None
    offer_anew: Callable[[], None] = lambda: None
    log = Logger()
    verdict: Verdict = field(default=Verdict(False, "", 0.0, CONTINUE), init=False)
    _policy: Policy = field(default=Policy(), init=False)
    _document: Mapping[str, Any] = field(factory=dict, init=False)
    _state: State = field(factory=State, init=False)
    _defaults: Mapping[str, Any] = field(factory=dict, init=False)
    _signals: dict[str, tuple[float, float]] = field(factory=dict, init=False)
    _rests: tuple[Rest, ...] = field(default=(), init=False)
    _loop: LoopingCall | None = field(default=None, init=False)
    _busy: bool = field(default=False, init=False)
    _again: bool = field(default=False, init=False)
    _still_since: float | None = field(default=None, init=False)
    """Since when running tasks stand still (monotonic seconds)."""
    _told_at: float = field(default=0.0, init=False)
    _told_words: tuple[str, tuple[str, ...]] = field(default=("", ()), init=False)
    _told_cause: Cause = field(default=(False, CONTINUE, (), (), False), init=False)
    _registered_as: tuple[bool, str] = field(default=(False, CONTINUE), init=False)
    _met: bool = field(default=False, init=False)
    """The main has told which signals there are."""
    _ready: bool = field(default=False, init=False)
    """It was looked at under the policy that holds, or that has no rules."""

    def __attrs_post_init__(self) -> None:
        kept = Kept() if self.memory is None else self.memory.load()
        self._defaults = kept.defaults
        self._take(merged(self._defaults, self.owner))
        self._state = remembered(self._policy, kept.pausing, kept.on_battery_since, self.clock.seconds())

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
        self._met = True
        offers_anew = defaults != self._defaults and self._follow(defaults)
        self._note_signals(data.get("signals") or {})
        self._note_rest(data.get("rest"))
        if self._kind(self._standing) != self._registered_as:  # it changed while the registration was under way
            self._tell()
        self.look()
        if offers_anew:
            self.offer_anew()

    def _follow(self, defaults: Mapping[str, Any]) -> bool:
        """Other defaults of the cluster hold now. True if the device offers something else by them."""
        self._defaults = defaults
        offers_anew = self._take(merged(defaults, self.owner))
        self._remember()
        if not self._ready and not self.verdict.paused:
            self._act(self._standing, self.clock.seconds())
        return offers_anew

    def signalled(self, signals: Mapping[str, Mapping[str, float]]) -> None:
        """All signals that hold now: name to value and time to live."""
        self._met = True
        self._note_signals(signals)
        self.look()

    def rest(self, data: Mapping[str, Any]) -> None:
        """The data of `rest`."""
        self._note_rest(data)
        self.look()

    def registering(self) -> dict[str, Any]:
        """How it stands, for the message `register`."""
        self._registered_as = self._kind(self._standing)
        self._told_words, self._told_cause = self._words(self._standing), self._cause(self._standing)
        return self.availability()

    @property
    def _standing(self) -> Verdict:
        """How it stands now, also before the first look."""
        if self._ready or self.verdict.paused:
            return self.verdict
        return Verdict(True, LOOKS_FIRST, 0.0, CONTINUE)

    @staticmethod
    def _kind(verdict: Verdict) -> tuple[bool, str]:
        return verdict.paused, verdict.running

    @staticmethod
    def _words(verdict: Verdict) -> tuple[str, tuple[str, ...]]:
        return verdict.reason, verdict.untold

    def _cause(self, verdict: Verdict) -> Cause:
        rests = tuple(each.order.reason for each in self._rests)
        return verdict.paused, verdict.running, rests, verdict.asking, verdict.settling

    def _tell(self) -> None:
        self._told_at, self._told_words = self.clock.seconds(), self._words(self._standing)
        self._told_cause = self._cause(self._standing)
        self.agent.say_availability(self.availability())

    def availability(self) -> dict[str, Any]:
        """How it stands, as the message `availability` tells it."""
        verdict = self._standing
        state = "paused" if verdict.paused else "available"
        since_s = 0.0 if self._state.since is None else self.clock.seconds() - self._state.since
        said: dict[str, Any] = {"state": state, "since_s": round(max(0.0, since_s), 1)}
        if self._document:
            said |= {"policy": policy_words(self._document), "untold": list(verdict.untold)}
        if not verdict.paused:
            return said
        rules = [{"rule": each.rule, "known": each.known} for each in verdict.asking]
        why = {"reason": verdict.reason, "rules": rules, "settling": verdict.settling}
        still_s = None if self._still_since is None else round(self.clock.seconds() - self._still_since, 1)
        return said | why | {"running": verdict.running} | ({} if still_s is None else {"still_s": still_s})

    def _take(self, document: Mapping[str, Any]) -> bool:
        """Another policy holds now. True if the device offers something else by it."""
        self._document, self._policy = document, Policy.from_document(document)
        self._ready = not self._policy.rules
        return bool(self.limit_cpus(self._policy.max_cpu_share))

    def _remember(self) -> None:
        """Which rules ask for a pause; while they have only just been content, or wait for an answer, as before."""
        if self.memory is None or self.verdict.settling:
            return
        asking = {each.rule for each in self.verdict.asking if each.known} | set(self._waiting_rules())
        words = {name: each.words for name, each in self._state.memories.items() if name in asking and each.pausing}
        self.memory.save(Kept(words, self._state.on_battery_since, self._defaults))

    def _note_signals(self, signals: Mapping[str, Mapping[str, float]]) -> None:
        now = self.clock.seconds()
        self._signals = {name: (each["value"], now + each["ttl_s"]) for name, each in signals.items()}

    def _note_rest(self, data: Mapping[str, Any] | None) -> None:
        now, said = self.clock.seconds(), [data, *(data.get("also") or ())] if data else []
        self._rests = tuple(_rest(each, now) for each in said if each["for_s"] > 0)

    # Deciding

    def answered(self) -> None:
        """A probe that takes its time has answered: look at once, if anybody looks at all."""
        if self._loop is not None and self._loop.running and self._policy.rules:
            self.look()

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
        policy = self._policy
        metrics = await self.read() if policy.rules else {}
        if policy is not self._policy:  # another one holds by now, which may need what was not read
            self._again = True
            return
        now = self.clock.seconds()
        waiting = self._waiting_rules()
        readings = self._readings(metrics, now)
        if waiting:  # as an order, which is over at once: the answer may be there in a moment
            order = Order(f"{LOOKS_FIRST}: {', '.join(waiting)}")
            readings = evolve(readings, orders=(*readings.orders, order))
        rules = tuple(rule for rule in policy.rules if rule.name not in waiting)
        state, verdict = decide(evolve(policy, rules=rules), self._state, readings, now)
        self._state = evolve(state, memories={**self._state.memories, **state.memories})
        self._ready = True
        self._act(evolve(verdict, reason=verdict.reason[:REASON_CHARS]), now)
        self._remember()

    def _readings(self, metrics: Metrics, now: float) -> Readings:
        self._rests = tuple(each for each in self._rests if now < each.until)
        orders = tuple(each.order for each in self._rests)
        signals = {name: value for name, (value, until) in self._signals.items() if now < until}
        return evolve(readings_of(metrics, self._local()), signals=signals, orders=orders)

    def _waiting_rules(self) -> list[str]:
        """Rules that may know more in a moment: what they look at was asked for, and never told yet."""
        waited_for = set().union(*(NEEDS.get(name, set()) for name in self.pending()))
        names = [rule.name for rule in self._policy.rules]
        return [name for name in names if name in waited_for or (name.startswith(SIGNAL) and not self._met)]

    def _local(self) -> datetime | None:
        try:
            return self.local(self._policy.zone)
        except (LookupError, ValueError, OSError) as error:
            self.log.debug("the local time is not known: {why}", why=str(error))
            return None

    def _act(self, verdict: Verdict, now: float) -> None:
        before, self.verdict = self.verdict, verdict
        if verdict.running == CONTINUE:
            self._still_since = None
        elif self._still_since is None:
            self._still_since = now
        changed = self._kind(verdict) != self._kind(before)
        if changed and verdict.paused:
            self.log.info("paused: {why}; running tasks: {running}", why=verdict.reason, running=verdict.running)
            self.agent.pause(verdict.reason, verdict.running)
        elif changed:
            self.log.info("works again")
            self.agent.unpause()
        elif verdict.paused:
            self.agent.paused = verdict.reason
        reworded = self._words(verdict) != self._told_words and now - self._told_at >= RETOLD_LOOKS * self.every_s
        if changed or reworded or self._cause(verdict) != self._told_cause:
            self._tell()


def _rest(said: Mapping[str, Any], now: float) -> Rest:
    order = Order(said.get("reason") or "a person wants it left alone", said["running"])
    return Rest(order, now + said["for_s"])


def readings_of(metrics: Metrics, local: datetime | None) -> Readings:
    """What the rules look at, from the monitor's metrics and our own part of the load."""
    battery = metrics.get("battery") or {}
    load = (metrics.get("load_average") or [None])[0]
    heats = [each for each in (metrics.get("temperature"), battery.get("temperature_c")) if each is not None]
    return Readings(
        charging=battery.get("charging"),
        battery_percent=battery.get("level"),
        temperature_c=max(heats, default=None),
        local=local,
        owner_away_s=metrics.get("owner_away_s"),
        load=None if load is None else max(0.0, load - metrics.get(OWN_LOAD, 0.0)),
        metered=metrics.get("metered"),
    )
