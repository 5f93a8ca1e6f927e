"""Real runners at every isolation level, for tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from retirecluster.worker.cgroup_tree import CgroupTree, find_tree
from retirecluster.worker.fences import Fences, Proof
from retirecluster.worker.runner_process import task_variables
from tests.worker.runner_client import RunnerClient


@cache
def proof() -> Proof:
    """What holds on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        return make_fences(Path(folder)).prove()


def make_fences(folder: Path, tree: CgroupTree | None = None) -> Fences:
    """The fences of a worker whose data is in `folder`."""
    data = folder / "data"
    data.mkdir(0o700, exist_ok=True)
    return Fences(data, data / "scratch", task_variables(os.environ), tree or CgroupTree())


def need_level(level: int) -> None:
    """Skip, and say why, where a level is not reached."""
    if level > proof().level:
        pytest.skip(proof().why_not(level))


@contextmanager
def runner_of(folder: Path, level: int, groups: bool = False) -> Iterator[RunnerClient]:
    """A runner of this level, with control groups or without; it and all it made are gone afterwards."""
    need_level(level)
    tree = find_tree(f"test-{os.getpid()}") if groups else CgroupTree()
    if groups and not tree.bases:
        pytest.skip(tree.why_not)
    fences = make_fences(folder, tree)
    settings = fences.runner(level)
    client = RunnerClient(Path(settings.scratch), settings=settings)
    try:
        yield client
    finally:
        client.close()
        left = list(Path(settings.scratch).glob("*"))
        for place in left:
            shutil.rmtree(place)
        fences.tidy()
    assert not left or client.process.returncode < 0, "scratch folders were left behind"
