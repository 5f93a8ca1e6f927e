"""The main's histories of many devices: memory when every ring is full, time for each heartbeat, size of the file."""

from __future__ import annotations

import argparse
import os
import time

from measure import report, rss_kib

from retirecluster.domain.history import DAYS, HOURS, MINUTES, History
from retirecluster.store.history import decode, encode

METRICS = {
    "cpu_usage": 12.5,
    "memory_usage": 40.0,
    "disk_usage": 70.0,
    "temperature": 51.2,
    "battery": {"level": 80, "charging": True},
    "load_average": [0.5, 0.4, 0.3],
    "disk_io": {"read_bytes_per_s": 1000.0, "write_bytes_per_s": 5000.0},
    "network": {"received_bytes_per_s": 2000.0, "sent_bytes_per_s": 3000.0},
}


def fill(history: History, devices: int) -> float:
    """Reports that fill every ring: days, then hours, then minutes; the time at the end."""
    times = [day * DAYS.step_s for day in range(DAYS.steps)]
    times += [times[-1] + hour * HOURS.step_s for hour in range(1, HOURS.steps)]
    times += [times[-1] + minute * MINUTES.step_s for minute in range(1, MINUTES.steps + 2)]
    for number in range(devices):
        for now in times:
            history.add(f"device-{number}", METRICS, 1, now)
    return times[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", type=int, nargs="?", default=10_000)
    devices = parser.parse_args().devices
    before_kib = rss_kib(os.getpid())
    history, began = History(), time.process_time()
    end = fill(history, devices)
    reports = devices * (DAYS.steps + HOURS.steps + MINUTES.steps)
    rings = next(iter(history.devices.values()))
    report(
        "full rings",
        devices=devices,
        rows=[len(rings.minutes), len(rings.hours), len(rings.days)],
        kib_each=round((rss_kib(os.getpid()) - before_kib) / devices, 2),
        mib_in_all=round((rss_kib(os.getpid()) - before_kib) / 1024, 1),
        us_each_report=round((time.process_time() - began) / reports * 1e6, 2),
    )
    began = time.perf_counter()
    data = b"".join(encode(history, end, 1.8e9))
    encoded_s = time.perf_counter() - began
    began = time.perf_counter()
    decode(data, end, 1.8e9)
    report(
        "file",
        mib=round(len(data) / 2**20, 1),
        encode_s=round(encoded_s, 2),
        decode_s=round(time.perf_counter() - began, 2),
    )


if __name__ == "__main__":
    main()
