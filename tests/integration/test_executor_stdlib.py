"""The standard library's own tests of executors, against `ClusterExecutor` on a real main and two workers.

They are imported from where Python was installed, in the layout of its version, and skipped where it came without its
tests (Debian has them in libpython3-testsuite). Taken are the classes that are about any executor: `ExecutorTest`,
`ExecutorShutdownTest`, `WaitTests` and `AsCompletedTests`. Not taken:

- tests of initializers, killed children, saturation, idle workers and names of threads: about pools of one machine;
- deadlock tests: they look at the queues and processes of ProcessPoolExecutor;
- `FutureTests`: about `Future` alone, which ours inherits;
- three of `ExecutorShutdownTest` that start programs which name the library's own executors: what they are about is in
  test_python_client.py.
"""

from __future__ import annotations

import importlib
import unittest
from collections.abc import Iterator
from typing import Any

import pytest

from retirecluster.client import Cluster, ClusterExecutor
from tests.integration.cluster import RealCluster

pytestmark = pytest.mark.integration
NO_TESTS = "this Python was installed without the tests of concurrent.futures"
PROGRAMS = ("test_interpreter_shutdown", "test_submit_after_interpreter_shutdown", "test_hang_gh83386")


def stdlib(module: str, name: str) -> Any:
    """A class of the library's tests: in one module until 3.11, in a package since 3.12; None where there are none."""
    for place in (f"test.test_concurrent_futures.{module}", "test.test_concurrent_futures"):
        try:
            return getattr(importlib.import_module(place), name)
        except (ImportError, AttributeError, unittest.SkipTest):
            continue
    return None


class OnCluster:
    """What the mixins of the library call an executor mixin."""

    worker_count = 5
    cluster: Cluster

    @staticmethod
    def executor_type(max_workers: int | None = None) -> ClusterExecutor:
        return ClusterExecutor(max_workers, cluster=OnCluster.cluster)

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        self.executor = self.executor_type(self.worker_count)

    def tearDown(self) -> None:
        self.executor.shutdown(wait=True)
        super().tearDown()  # type: ignore[misc]


@pytest.fixture(scope="module", autouse=True)
def real_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if not FOUND:
        yield
        return
    real = RealCluster(tmp_path_factory.mktemp("stdlib"))
    real.start_main()
    for name in ("one", "two"):
        real.start_worker(name, "--slots", "3")
    real.wait_online("one", "two")
    with Cluster(f"127.0.0.1:{real.web_port}", real.token) as OnCluster.cluster:
        OnCluster.cluster.status()
        yield
    real.stop()
    real.assert_no_tracebacks()


def on_cluster(module: str, name: str, *left_out: str) -> Any:
    """The library's tests of that name, with our executor."""
    mixin, base = stdlib(module, name), stdlib("util", "BaseTestCase")
    if mixin is None or base is None:

        class Missing(unittest.TestCase):
            @unittest.skip(NO_TESTS)
            def test_missing(self) -> None:
                pass

        return Missing
    return type(f"Cluster{name}", (mixin, OnCluster, base), dict.fromkeys(left_out))


FOUND = stdlib("util", "BaseTestCase") is not None
TestExecutor = on_cluster("executor", "ExecutorTest")
TestShutdown = on_cluster("test_shutdown", "ExecutorShutdownTest", *PROGRAMS)
TestWait = on_cluster("test_wait", "WaitTests")
TestAsCompleted = on_cluster("test_as_completed", "AsCompletedTests")
