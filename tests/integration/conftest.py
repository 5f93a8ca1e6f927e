"""A cluster of real processes for each test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster import RealCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RealCluster]:
    """Nothing runs yet: the test starts what it needs. Every log is looked through for tracebacks at the end."""
    made = RealCluster(tmp_path)
    try:
        yield made
    finally:
        made.stop()
    made.assert_no_tracebacks()
