"""Runs inside an environment that has `hyperqueue`: prints the tasks a second of a batch of `true`, as one JSON line.

Its package has no `hq` program; the Python interface starts server and workers as threads of this process. Waiting
for a job polls once a second, so the end of a batch is taken from a file that a last task makes, after all others.
"""

import json
import os
import sys
import tempfile
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def batch(client, count, folder):
    """Seconds from the submit to the end of `count` tasks."""
    mark = os.path.join(folder, f"end-{time.monotonic_ns()}")
    job = Job(max_fails=None)
    tasks = [job.program(["true"], stdout=None, stderr=None) for _ in range(count)]
    job.program(["touch", mark], stdout=None, stderr=None, deps=tasks)
    began = time.perf_counter()
    client.submit(job)
    while not os.path.exists(mark):
        time.sleep(0.005)
    return time.perf_counter() - began


def main(count):
    with tempfile.TemporaryDirectory() as folder, LocalCluster() as cluster:
        os.chdir(folder)
        for _ in range(2):
            cluster.start_worker(WorkerConfig(cores=1))
        client = cluster.client()
        batch(client, 50, folder)
        print(json.dumps({"tasks_per_s": count / batch(client, count, folder)}), flush=True)


main(int(sys.argv[1]))
