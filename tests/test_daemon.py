"""What the service manager is told, with a socket that is really there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from retirecluster.daemon import TELL_S, Notifier, Reporter
from tests.conftest import LoggedFailures


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(tmp_path / "notify"))
        found.setblocking(False)
        yield found


def told(manager: socket.socket) -> list[str]:
    """Everything since the last look."""
    found: list[str] = []
    while True:
        try:
            found.append(manager.recv(65_536).decode())
        except BlockingIOError:
            return found


def test_what_hangs_gets_no_beat(manager: socket.socket) -> None:
    clock, problems = Clock(), [""]
    reporter = Reporter(Notifier(manager.getsockname(), 6.0), clock, lambda: "well", lambda: problems[0])
    reporter.start()
    assert told(manager) == []  # nothing before the reactor turns
    clock.advance(0)
    assert told(manager) == ["READY=1", "STATUS=well\nWATCHDOG=1"]
    clock.advance(2)
    assert told(manager) == ["STATUS=well\nWATCHDOG=1"]
    problems[0] = "a transaction\nhangs"
    clock.advance(2)
    assert told(manager) == ["STATUS=a transaction hangs"]
    problems[0] = ""
    clock.advance(2)
    assert told(manager) == ["STATUS=well\nWATCHDOG=1"]
    reporter.stopping()
    clock.advance(10)
    assert told(manager) == ["STOPPING=1\nSTATUS=stopping"]


def test_without_a_watchdog_the_status_is_told_now_and_then(manager: socket.socket) -> None:
    clock = Clock()
    reporter = Reporter(Notifier(manager.getsockname()), clock, lambda: "well")
    reporter.start()
    clock.advance(0)
    clock.advance(TELL_S)
    assert told(manager) == ["READY=1", "STATUS=well", "STATUS=well"]
    reporter.stopping()


def test_a_status_that_cannot_be_made_stops_nothing(manager: socket.socket, logged_failures: LoggedFailures) -> None:
    clock, words = Clock(), [""]
    reporter = Reporter(Notifier(manager.getsockname(), 6.0), clock, lambda: words.pop())
    reporter.start()
    clock.advance(0)
    assert told(manager) == ["READY=1", "STATUS=\nWATCHDOG=1"]
    clock.advance(2)
    assert told(manager) == []
    words.append("again")
    clock.advance(2)
    assert told(manager) == ["STATUS=again\nWATCHDOG=1"]
    reporter.stopping()
    assert len(logged_failures.flush()) == 1


@pytest.mark.parametrize(
    ("environ", "notifier"),
    [
        ({}, Notifier()),
        ({"NOTIFY_SOCKET": "/run/notify"}, Notifier("/run/notify")),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "5000000"}, Notifier("@x", 5.0)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "7"}, Notifier("@x", 5.0)),
        ({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "8"}, Notifier("@x")),
        ({"NOTIFY_SOCKET": "vsock:2:1", "WATCHDOG_USEC": "0"}, Notifier()),
        ({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "soon"}, Notifier("/run/notify")),
    ],
)
def test_what_the_environment_says_is_taken_out_of_it(environ: dict[str, str], notifier: Notifier) -> None:
    left = {"PATH": "/bin", **environ}
    assert Notifier.taken_from(left, 7) == notifier
    assert left == {"PATH": "/bin"}


def test_a_manager_that_is_gone_or_does_not_read_disturbs_nobody(tmp_path: Path, manager: socket.socket) -> None:
    Notifier(str(tmp_path / "nobody")).tell(READY="1")
    Notifier("@" + "x" * 500).tell(READY="1")
    for _ in range(2000):  # more than the socket takes
        Notifier(manager.getsockname()).tell(STATUS="x" * 1000)
    assert set(told(manager)) == {"STATUS=" + "x" * 1000}
