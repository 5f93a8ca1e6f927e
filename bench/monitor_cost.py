"""What a worker's looking at its device costs: one reading, and a whole idle worker with a policy of every rule."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from measure import Processes, cpu_with_children_s, report, spread

from retirecluster.platforms.choose import choose_platform
from retirecluster.platforms.psutil_probes import PsutilProbes, find_psutil
from retirecluster.worker.monitor import POLICY, SystemMonitor

POLICY_OF_ALL_RULES = {
    "battery": {"pause_below": 10},
    "temperature": {"pause_above": 95},
    "hours": ["00:00-24:00"],
    "zone": "Europe/Berlin",
    "owner_away_min": 1,
    "max_load": 1000,
    "metered": "deny",
    "signals": {"tariff": {"max": 1}},
}
HEARTBEAT_S, LOOK_S = 60.0, 10.0


def used_s() -> float:
    """CPU time of this process, and of programs that it has started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def readings(rounds: int) -> None:
    """CPU time of one reading, all probes: slow ones in their threads, and the programs that they start, included."""
    for name, psutil in (("with psutil", find_psutil()), ("without psutil", None)):
        probes = PsutilProbes(psutil) if psutil else None
        monitor = SystemMonitor(
            choose_platform(os.environ), Path(tempfile.gettempdir()), time.monotonic, probes, time.time
        )
        costs_ms = []
        for _ in range(5):
            began = used_s()
            for _ in range(rounds):
                monitor.read(POLICY)
            costs_ms.append((used_s() - began) / rounds * 1e3)
        cost_ms = spread(costs_ms, 3)
        share = cost_ms["median"] / 1e3 * (1 / HEARTBEAT_S + 1 / LOOK_S) * 100
        report(f"one reading {name}", cpu_ms=cost_ms, percent_of_a_core_with_a_policy=round(share, 4))


def whole_worker(seconds: float) -> None:
    """CPU time of a worker, with what the programs that it starts use, beside that of one without a policy, both idle
    and connected."""
    used = {}
    for name, policy in (("no policy", None), ("every rule", POLICY_OF_ALL_RULES)):
        with Processes() as processes:
            _, port, _ = processes.start_main()
            config = processes.folder / "worker.json"
            config.write_text(json.dumps({"policy": policy, "monitor_interval_s": LOOK_S}))
            worker = processes.start_worker("worker", port, "--config", str(config))
            time.sleep(10.0)
            before = cpu_with_children_s(worker.pid)
            time.sleep(seconds)
            used[name] = (cpu_with_children_s(worker.pid) - before) / seconds * 100
    report("idle worker", seconds=seconds, percent_of_a_core={name: round(share, 3) for name, share in used.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    readings(options.rounds)
    whole_worker(options.seconds)


if __name__ == "__main__":
    main()
