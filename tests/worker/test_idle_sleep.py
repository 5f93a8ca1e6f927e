"""When a device goes to sleep that has nothing to do: on a clock of the test's; the commands are real programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import pytest
import pytest_twisted
from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from retirecluster.worker.idle_sleep import SETTLE_S, IdleSleep, run_command
from tests.conftest import LoggedFailures

AFTER_S = 60.0


@define
class Device:
    """What IdleSleep sees of a device, and what it did to it."""

    clock: Clock = field(factory=Clock)
    tasks: int = 0
    activity: str = ""
    away_s: float | None = None
    registered: bool = True
    command: Deferred[str] | None = None
    """What the command answers; None: it succeeds at once."""
    done: list[str] = field(factory=list)

    async def owner_away_s(self) -> float | None:
        return self.away_s

    async def close(self) -> None:
        self.done.append("goodbye")

    async def run(self, command: Sequence[str]) -> str:
        self.done.append(" ".join(command))
        return "" if self.command is None else await self.command

    def sleeper(self) -> IdleSleep:
        made = IdleSleep(
            self.clock,
            ["suspend", "now"],
            AFTER_S,
            busy=lambda: self.tasks > 0,
            activity=lambda: self.activity,
            owner_away_s=self.owner_away_s,
            line=Line(self),
            run=self.run,
        )
        made.start()
        return made

    def passes(self, seconds: float) -> list[str]:
        """What is done in so much time."""
        self.clock.pump([1.0] * round(seconds))
        done, self.done = self.done, []
        return done


@define
class Line:
    device: Device

    def registered(self) -> bool:
        return self.device.registered

    async def close(self) -> None:
        await self.device.close()

    def open(self) -> None:
        self.device.done.append("back")


def test_it_sleeps_after_the_time_and_comes_back_once_it_has_settled() -> None:
    device = Device()
    sleeper = device.sleeper()
    assert device.passes(AFTER_S - 1) == []
    assert device.passes(6) == ["goodbye", "suspend now"]
    assert device.passes(SETTLE_S - 6) == []
    assert device.passes(7) == ["back"]
    assert device.passes(AFTER_S - 10) == [], "idle anew"
    assert device.passes(15) == ["goodbye", "suspend now"]
    sleeper.stop()
    assert device.passes(1000) == []


def test_work_keeps_it_awake_and_so_does_work_between_two_looks() -> None:
    device = Device(tasks=1)
    sleeper = device.sleeper()
    assert device.passes(1000) == []
    device.tasks = 0
    for number in range(20):
        assert device.passes(AFTER_S - 10) == []
        device.activity = f"task {number}"
    assert device.passes(AFTER_S - 10) == []
    assert device.passes(20) == ["goodbye", "suspend now"]
    sleeper.stop()


def test_a_device_without_its_main_stays_awake() -> None:
    device = Device(registered=False)
    sleeper = device.sleeper()
    assert device.passes(1000) == [], "it looks for the main"
    device.registered = True
    assert device.passes(AFTER_S - 10) == []
    assert device.passes(20) == ["goodbye", "suspend now"]
    sleeper.stop()


def test_an_owner_who_is_there_keeps_it_awake() -> None:
    device = Device(away_s=AFTER_S - 1)
    sleeper = device.sleeper()
    assert device.passes(1000) == []
    device.away_s = AFTER_S
    assert device.passes(10) == ["goodbye", "suspend now"]
    sleeper.stop()


def test_a_command_that_fails_brings_it_back_at_once() -> None:
    device = Device(command=Deferred())
    sleeper = device.sleeper()
    assert device.passes(AFTER_S + 5) == ["goodbye", "suspend now"]
    assert device.passes(1000) == [], "asleep: the command has not returned"
    assert device.command is not None
    device.command.callback("exit status 1")
    assert device.passes(1) == ["back"]
    sleeper.stop()


def test_a_command_that_cannot_be_run_at_all_brings_it_back_too(logged_failures: LoggedFailures) -> None:
    device = Device(command=Deferred())
    sleeper = device.sleeper()
    device.passes(AFTER_S + 5)
    assert device.command is not None
    device.command.errback(OSError("no more processes"))
    assert device.passes(1) == ["back"]
    assert len(logged_failures.flush()) == 1
    device.command = None
    assert "suspend now" in device.passes(2 * AFTER_S), "the next look follows"
    sleeper.stop()


@pytest.mark.parametrize("after_s", [0, SETTLE_S / 2])
def test_a_worker_that_stops_meanwhile_stays_away(after_s: float) -> None:
    device = Device(command=Deferred() if after_s == 0 else None)
    sleeper = device.sleeper()
    assert device.passes(AFTER_S + 5) == ["goodbye", "suspend now"]
    device.passes(after_s)
    sleeper.stop()
    assert device.passes(1000) == []


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("pass", ""),
        ("import sys; sys.exit('no rights')", "exit status 1: no rights"),
        ("import os; os.kill(os.getpid(), 9)", "exit status none, signal 9"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_how_a_command_ends(program: str, why: str) -> None:
    assert await run_command(reactor, [sys.executable, "-c", program], os.environ) == why


@pytest_twisted.ensureDeferred
async def test_a_command_that_is_not_there() -> None:
    assert "No such file or directory" in await run_command(reactor, ["no-such-program-anywhere"], os.environ)
