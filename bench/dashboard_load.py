"""The overview page with many devices and tasks in a headless Chromium: first paint, frames, memory, by its own clock.

A main, played devices (`played_devices.py`), a long queue, and then a stream of short tasks that makes so many events a
second. Frames are measured by requestAnimationFrame: the longest gap between two is the longest time in which nothing
could be drawn. Needs chromium, chromedriver and selenium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from measure import Api, Processes, cpu_s, report

FRAMES = """
window.frames_ms = []; window.long_ms = [];
new PerformanceObserver((list) => list.getEntries().forEach((each) => window.long_ms.push(Math.round(each.duration))))
    .observe({ type: "longtask" });
let before = performance.now();
const frame = (now) => { window.frames_ms.push(now - before); before = now; requestAnimationFrame(frame); };
requestAnimationFrame(frame);
"""
FIRST = """
const done = arguments[arguments.length - 1];
const look = () => {
    const shown = document.querySelectorAll("#devices .tile, #devices .card").length;
    if (shown >= COUNT && document.querySelectorAll("#tasks tr").length) done(performance.now());
    else requestAnimationFrame(look);
};
look();
"""
EVENTS_A_TASK = 4
"""Submitted, given out, started, ended."""


def browser() -> Any:
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(each)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def stream(api: Api, tasks_per_s: float, until: float) -> None:
    """Submit short tasks at an even rate."""
    every_s = 0.2
    due = time.monotonic()
    while due < until:
        count = round(tasks_per_s * every_s)
        api.request("POST", "tasks", [{"task_type": "sleep", "payload": {"duration_s": 0.2}}] * count)
        due += every_s
        time.sleep(max(0.0, due - time.monotonic()))


def frames(driver: Any, seconds: float, what: str, main_pid: int, event_no: Any) -> None:
    """Watch the page for a while, and report its frames."""
    driver.execute_script("window.frames_ms.length = 0; window.long_ms.length = 0")
    began, events, cpu = time.monotonic(), event_no(), cpu_s(main_pid)
    time.sleep(seconds)
    took = time.monotonic() - began
    gaps = sorted(driver.execute_script("return window.frames_ms"))
    long_ms = sorted(driver.execute_script("return window.long_ms"))
    report(
        what,
        events_per_s=round((event_no() - events) / took),
        frames_per_s=round(len(gaps) / took),
        longest_frame_ms=round(gaps[-1]) if gaps else None,
        frame_p99_ms=round(gaps[int(0.99 * len(gaps))]) if gaps else None,
        longest_script_ms=long_ms[-1] if long_ms else 0,
        main_cpu_percent=round(100 * (cpu_s(main_pid) - cpu) / took),
        heap_mib=round(driver.execute_script("return performance.memory.usedJSHeapSize") / 2**20, 1),
    )


def measure(devices: int, tasks: int, events_per_s: float, seconds: float, path: str) -> None:
    with Processes() as processes:
        main_process, worker_port, web_port = processes.start_main()
        player = [sys.executable, str(Path(__file__).parent / "played_devices.py"), "--port", str(worker_port)]
        processes.running.append(subprocess.Popen([*player, "--count", str(devices), "--beat-s", "60"]))
        api = Api(web_port, processes.folder)
        api.wait_slots(2 * devices)
        waiting = {"task_type": "sleep", "payload": {"duration_s": 1}, "requirements": {"min_memory_gb": 4096}}
        for start in range(0, tasks, 1000):
            api.request("POST", "tasks", [waiting] * min(1000, tasks - start))
        driver = browser()
        try:
            driver.set_script_timeout(60)
            driver.get(f"http://127.0.0.1:{web_port}{path}")
            first_ms = driver.execute_async_script(FIRST.replace("COUNT", str(devices))) if path == "/" else None
            paint = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
            report(
                "first paint",
                devices=devices,
                tasks=tasks,
                path=path,
                useful_ms=first_ms and round(first_ms),
                first_ms=round(driver.execute_script(paint) or 0),
            )
            driver.execute_script(FRAMES)
            time.sleep(3)

            def event_no() -> int:
                return int(api.request("GET", "cluster/status")["event_no"])

            frames(driver, seconds, "quiet", main_process.pid, event_no)
            more = Api(web_port, processes.folder)
            until = time.monotonic() + seconds + 6
            busy = threading.Thread(target=stream, args=(more, events_per_s / EVENTS_A_TASK, until))
            busy.start()
            time.sleep(3)
            frames(driver, seconds, "busy", main_process.pid, event_no)
            busy.join()
        finally:
            driver.quit()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--events-per-s", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--path", default="/", help="the address of a screen, as /#/timeline")
    given = parser.parse_args()
    measure(given.devices, given.tasks, given.events_per_s, given.seconds, given.path)
