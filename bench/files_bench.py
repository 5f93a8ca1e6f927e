"""How fast files travel: upload, fetch by a worker, collection and upload of an output, download; beside cp and a hash.

    python bench/files_bench.py [--mib N] [--rounds N]

One main and one worker on loopback, on one disk. `disk_mb_s` is what copying and hashing the same file takes here, in
Python and one after the other: every leg does both, and some of it more than once. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from measure import Api, Processes, report, rss_kib, spread

MIB = 1024 * 1024
PIECE = 4 * MIB


def made(path: Path, size: int) -> str:
    """A file of random bytes; its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            data = os.urandom(MIB)
            file.write(data)
            digest.update(data)
    return digest.hexdigest()


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def copy_and_hash(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        digest = hashlib.sha256()
        while data := file.read(MIB):
            digest.update(data)


class Legs:
    """One client of the main."""

    def __init__(self, api: Api, port: int) -> None:
        self.api = api
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)

    def upload(self, source: Path, digest: str) -> None:
        size = source.stat().st_size
        headers = {"Authorization": self.api.headers["Authorization"], "Upload-Length": str(size)}
        with source.open("rb") as file:
            for offset in range(0, size, PIECE):
                self.connection.request("PUT", f"/api/v1/files/{digest}?offset={offset}", file.read(PIECE), headers)
                answer = self.connection.getresponse()
                body = answer.read()
                if answer.status not in (201, 202):
                    raise SystemExit(body)

    def download(self, address: str) -> None:
        self.connection.request("GET", f"/api/v1/{address}")
        answer = self.connection.getresponse()
        while answer.read(MIB):
            pass

    def run(self, argv: list[str], **files: Any) -> str:
        task = {"task_type": "command", "payload": {"argv": argv}, "files": files}
        task_id: str = self.api.request("POST", "tasks", task)["task_id"]
        while (found := self.api.request("GET", f"tasks/{task_id}?wait=30"))["status"] not in ("completed", "failed"):
            pass
        if found["status"] == "failed":
            raise SystemExit(found)
        return task_id


MAKE = "import os\nwith open('out', 'wb') as f:\n for _ in range(%d): f.write(os.urandom(1 << 20))"


def one_round(legs: Legs, source: Path, size: int) -> dict[str, float]:
    """Seconds for each leg, with contents that nobody has seen before."""
    digest = made(source, size)
    files = {"inputs": [{"name": "in", "sha256": digest}]}
    script = ["python3", "-c", MAKE % (size // MIB)]
    seconds = {
        "disk": timed(lambda: copy_and_hash(source, source.with_name("copy"))),
        "upload": timed(lambda: legs.upload(source, digest)),
        "fetch": timed(lambda: legs.run(["true"], **files)),
        "cached": timed(lambda: legs.run(["true"], **files)),
        "download": timed(lambda: legs.download(f"files/{digest}")),
    }
    plain = timed(lambda: legs.run(script))
    seconds["collect"] = max(0.001, timed(lambda: legs.run(script, outputs=["out"])) - plain)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    size = arguments.mib * MIB
    figures: dict[str, list[float]] = {}
    with Processes() as processes:
        main_process, worker_port, web_port = processes.start_main()
        worker = processes.start_worker("one", worker_port, "--slots", "1")
        api = Api(web_port, processes.folder)
        api.wait_slots(1)
        legs = Legs(api, web_port)
        legs.run(["true"])
        for _ in range(arguments.rounds):
            for name, value in one_round(legs, processes.folder / "source", size).items():
                figures.setdefault(f"{name}_mb_s", []).append(size / 1e6 / value)
        rss = {"main_rss_kib": rss_kib(main_process.pid), "worker_rss_kib": rss_kib(worker.pid)}
        spreads = {name: spread(values) for name, values in figures.items()}
        report("files", mib=arguments.mib, rounds=arguments.rounds, **spreads, **rss)
    shutil.rmtree(processes.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
