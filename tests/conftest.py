"""What every test gets: a check that Twisted is left clean, and a main node of its own where it asks for one."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import settings
from twisted.internet import reactor
from twisted.logger import globalLogPublisher

from tests.support import main_settings

SEED_MESSAGES = Path(__file__).parent / "seed_messages.json"

# No deadlines: a machine that is busy with other things is no failure. In CI the same examples every time, so that what
# fails there can be run again; everywhere else new ones.
settings.register_profile("retirecluster", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("retirecluster")


class LoggedFailures(list[dict[str, Any]]):
    """Failures that were logged during a test; a test that expects some takes them with `flush`."""

    def __call__(self, event: dict[str, Any]) -> None:
        if event.get("log_failure") is not None:
            self.append(event)

    def flush(self) -> list[dict[str, Any]]:
        gc.collect()
        taken, self[:] = list(self), []
        return taken


@pytest.fixture(autouse=True)
def logged_failures() -> Iterator[LoggedFailures]:
    """Fails the test on unhandled Deferred errors, logged failures, and delayed calls that it left behind."""
    failures = LoggedFailures()
    globalLogPublisher.addObserver(failures)
    before = set(reactor.getDelayedCalls())
    try:
        yield failures
        gc.collect()
    finally:
        globalLogPublisher.removeObserver(failures)
        left = [call for call in reactor.getDelayedCalls() if call not in before]
        for call in left:
            call.cancel()
    assert not left, f"delayed calls were left behind: {left}"
    assert not failures, [str(event["log_failure"]) for event in failures]


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Any]:
    """A function that starts a main node in this process: `make_node(**settings)`. Stopped after the test."""
    from retirecluster.main.service import MainNode

    nodes: list[MainNode] = []

    def make(folder: Path = tmp_path / "main", **settings: Any) -> MainNode:
        node = MainNode(main_settings(folder, **settings), reactor)
        node.startService()
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        if node.running:
            pytest_twisted.blockon(node.stopService())


@pytest.fixture
def node(make_node: Any) -> Any:
    """A main node in this process, with default settings."""
    return make_node()


@pytest.fixture
def seed_messages() -> list[dict[str, Any]]:
    """The four example messages of the architecture document: register, heartbeat, task_assign, task_result."""
    messages: list[dict[str, Any]] = json.loads(SEED_MESSAGES.read_text())
    return messages
