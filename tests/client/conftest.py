"""A fake main node for the client's tests, and a way to run command lines against it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from attrs import frozen
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from retirecluster.client.api import ClusterApi
from retirecluster.client.cli import parse
from retirecluster.client.console import Console
from retirecluster.client.context import Context
from retirecluster.domain.errors import ClusterError
from tests.client.fake_main import TOKEN, FakeMain


@frozen
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str


@pytest.fixture
def fake() -> Iterator[FakeMain]:
    main = FakeMain()
    main.listen()
    yield main
    pytest_twisted.blockon(Deferred.fromCoroutine(main.close()))


@pytest.fixture
def api(fake: FakeMain) -> Iterator[ClusterApi]:
    client = ClusterApi(fake.url, TOKEN, reactor=reactor)
    yield client
    pytest_twisted.blockon(Deferred.fromCoroutine(client.close()))


@pytest.fixture
def retire_cluster(fake: FakeMain, tmp_path: Path) -> Callable[..., Any]:
    """`await retire_cluster("tasks", "list")`: one command line against the fake main."""

    async def run(*words: str, width: int | None = None, token: str | None = TOKEN) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        environ = {"RETIRE_CLUSTER_SERVER": fake.url, "RETIRE_CLUSTER_DATA_DIR": str(tmp_path)}
        if token is not None:
            environ["RETIRE_CLUSTER_TOKEN"] = token
        console = Console(out, err, width)
        try:
            args = parse(words)
            assert args is not None
            if hasattr(args, "run_now"):
                code = args.run_now(console, args)
            else:
                code = await args.run(Context(reactor, console, environ), args)
        except ClusterError as error:
            return Ran(error.kind.exit_code, out.getvalue(), err.getvalue() + error.message)
        return Ran(code, out.getvalue(), err.getvalue())

    return run
