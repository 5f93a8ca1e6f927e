"""The main is killed again and again while workers upload many outputs: nothing hangs, nothing is lost or doubled.

RETIRE_ROUNDS sets how often; the default is enough for each run of the tests.
"""

from __future__ import annotations

import os
import random
import time
from hashlib import sha256

import pytest

from tests.integration.cluster import RealCluster
from tests.integration.test_files import FAST, fetch, outputs, shell

pytestmark = pytest.mark.integration
ROUNDS = int(os.environ.get("RETIRE_ROUNDS", "4"))
WORKERS = ("one", "two", "three")
MAKE = "echo run >> {log}; for n in 1 2 3 4 5; do {{ echo {number} $n; head -c {size} /dev/zero; }} > out$n; done"


def test_the_main_is_killed_again_and_again_while_outputs_are_uploaded(cluster: RealCluster) -> None:
    chance = random.Random(os.environ.get("RETIRE_SEED", "uploads"))
    cluster.choose_ports()
    cluster.start_main(environ=FAST)
    for name in WORKERS:
        cluster.start_worker(name, "--slots", "2")
    cluster.wait_online(*WORKERS)
    submitted: dict[str, tuple[int, int]] = {}
    for number in range(ROUNDS):
        batch = [(10 * number + index, chance.choice((1, 70_000, 3_000_000, 12_000_000))) for index in range(6)]
        tasks = [shell(MAKE.format(log=cluster.folder / f"runs-{n}", number=n, size=size), "out*") for n, size in batch]
        submitted |= dict(zip(cluster.submit(*tasks), batch, strict=True))
        time.sleep(chance.uniform(0.05, 2.0))
        cluster.kill("main")
        time.sleep(chance.choice((0.0, 0.0, 0.7)))
        cluster.start_main(environ=FAST)
    for task_id, (number, size) in submitted.items():
        assert cluster.ended(task_id, 60)["status"] == "completed"
        contents = {f"out{n}": f"{number} {n}\n".encode() + bytes(size) for n in range(1, 6)}
        assert outputs(cluster, task_id) == {name: sha256(data).hexdigest() for name, data in contents.items()}
        assert (cluster.folder / f"runs-{number}").read_text() == "run\n"
    last = next(reversed(submitted))
    assert fetch(cluster, last, "out1") == f"{submitted[last][0]} 1\n".encode() + bytes(submitted[last][1])
