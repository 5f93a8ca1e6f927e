"""Fixtures of the worker's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.runner_client import RunnerClient


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[RunnerClient]:
    """A real runner; it and its tasks are gone after the test."""
    client = RunnerClient(tmp_path / "scratch")
    yield client
    client.close()
    assert not list((tmp_path / "scratch").glob("*")), "scratch folders were left behind"
