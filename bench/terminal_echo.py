"""The terminal in a headless Chromium while 500 events a second arrive: from a key to its echo, in the page's clock.

One tab follows `monitor tasks`, which draws them all; keys are typed in another one, then in the one that draws, where
they are kept for the prompt: there the longest frame is what counts. Needs chromium, chromedriver, selenium and a front
end that is built.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

from measure import percentile, report

MAIN = """
import sys
from pathlib import Path
from twisted.internet import reactor
from twisted.internet.task import LoopingCall
from retirecluster.config import load_config
from retirecluster.domain.tasks import encode
from retirecluster.main.events import StreamEvent
from retirecluster.main.service import MainNode

folder, a_second = sys.argv[1], int(sys.argv[2])
node = MainNode(load_config("main", {"data_dir": folder, "port": 0, "web_port": 0}, {}, None), reactor)
node.startService()
number = 0

def publish():
    global number
    events = []
    for _ in range(a_second // 50):
        number += 1
        task_id = f"task-{number:012d}"
        told = {"event": "progress", "task_id": task_id, "device_id": f"device-{number % 100}", "status": "running",
                "percent": number % 100, "message": "rendering a frame of a film"}
        events.append(StreamEvent("task_update", encode(told), None, "task", task_id))
    node.rooms.events.publish(events)

LoopingCall(publish).start(1 / 50)
reactor.callLater(1, lambda: print(node.web_port, flush=True))
reactor.run()
"""
ENTER = "\ue007"


def browser() -> Any:
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(each)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def typed(driver: Any, keys: int) -> dict[str, float]:
    """Type keys, one by one; figures of the page."""
    driver.execute_script("retireTerminal.timings()")
    for number in range(keys):
        driver.switch_to.active_element.send_keys("abcdefghij"[number % 10])
        time.sleep(0.05)
    time.sleep(0.3)
    found = driver.execute_script("return retireTerminal.timings()")
    echoes = found["echoMs"] or [0.0]
    return {
        "keys": len(found["echoMs"]),
        "echo_ms_p50": round(percentile(echoes, 50), 1),
        "echo_ms_p95": round(percentile(echoes, 95), 1),
        "echo_ms_max": round(max(echoes), 1),
        "longest_frame_ms": round(found["longestFrameMs"], 1),
    }


def run(url: str, keys: int) -> None:
    """Measure in one page."""
    driver = browser()
    try:
        driver.get(url)
        time.sleep(1)
        report("terminal_echo", during="nothing happens", **typed(driver, keys))
        driver.execute_script("document.querySelector('#new-tab').click()")
        time.sleep(0.3)
        driver.switch_to.active_element.send_keys("monitor tasks", ENTER)
        time.sleep(3)
        report("terminal_echo", during="the tab that draws 500 events a second", **typed(driver, keys))
        driver.execute_script("document.querySelector('#tabs button').click()")
        time.sleep(0.5)
        report("terminal_echo", during="another tab meanwhile", **typed(driver, keys))
    finally:
        driver.quit()


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100)
    parser.add_argument("--events", type=int, default=500, help="a second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", MAIN, folder, str(arguments.events)]
        served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert served.stdout is not None
            run(f"http://127.0.0.1:{served.stdout.readline().strip()}/terminal", arguments.keys)
        finally:
            served.terminate()
            served.wait()


if __name__ == "__main__":
    main()
