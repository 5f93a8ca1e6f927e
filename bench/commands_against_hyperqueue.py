"""`command` tasks (`true`) beside HyperQueue's on the same machine, in turn, in one run: a ratio.

Installs the package `hyperqueue` into a throw-away environment, or uses the one given by --python.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from cluster_bench import COMMAND, batch
from measure import Api, Processes, report, spread

PEER = Path(__file__).parent / "peers" / "hyperqueue_commands.py"


def install() -> str:
    """The Python of a new environment that has hyperqueue."""
    folder = Path(tempfile.mkdtemp(prefix="hyperqueue-"))
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "hyperqueue"], check=True)
    return python


def theirs(python: str, count: int) -> float:
    answer = subprocess.run([python, str(PEER), str(count)], check=True, capture_output=True, text=True, timeout=300)
    return float(json.loads(answer.stdout.splitlines()[-1])["tasks_per_s"])


def ours(api: Api, count: int) -> float:
    return count / batch(api, COMMAND, count)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--python", help="of an environment that has hyperqueue")
    options = parser.parse_args()
    python = options.python or install()
    rates: dict[str, list[float]] = {"ours": [], "hyperqueue": []}
    with Processes() as processes:
        _, worker_port, web_port = processes.start_main()
        for number in (1, 2):
            processes.start_worker(f"worker-{number}", worker_port, "--slots", "1")
        api = Api(web_port, processes.folder)
        api.wait_slots(2)
        ours(api, 100)
        for _ in range(options.runs):
            rates["hyperqueue"].append(theirs(python, options.tasks))
            rates["ours"].append(ours(api, options.tasks))
    ratio = sorted(a / b for a, b in zip(rates["ours"], rates["hyperqueue"], strict=True))
    report(
        "command true, two workers of one slot",
        tasks=options.tasks,
        ours_per_s=spread(rates["ours"]),
        hyperqueue_per_s=spread(rates["hyperqueue"]),
        ratio=spread(ratio, 2),
    )


if __name__ == "__main__":
    sys.exit(main())
