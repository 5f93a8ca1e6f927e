"""Makes the pictures in docs/screenshots: a main of its own with played devices, looked at by a headless Chromium.

    python docs/screenshots.py            make all pictures anew
    python docs/screenshots.py --serve    only start the cluster, and say where to look

Needs chromium, chromedriver and selenium; with Pillow the files are a third as large.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "bench"))

from measure import Api, Processes  # noqa: E402

OUT = Path(__file__).parent / "screenshots"
GB = 10**9


def device(name: str, model: str, info: str, slots: int, memory_gb: float, metrics: str, **more: Any) -> dict[str, Any]:
    """A device of the picture. `info` is platform architecture role, `metrics` are NAME=VALUE."""
    platform, architecture, role = info.split()
    given: dict[str, Any] = {key: float(value) for key, value in (each.split("=") for each in metrics.split())}
    if "battery" in given:
        given["battery"] = {"level": given["battery"], "charging": bool(given.pop("charging", 1.0))}
    return {
        "device_id": name,
        "info": {
            "hostname": name,
            "platform": platform,
            "architecture": architecture,
            "role": role,
            "model": model,
            "python_version": "3.12.8",
        },
        "specs": {"cpu_cores": slots * 2, "memory_total": int(memory_gb * GB), "disk_space": 64 * GB},
        "metrics": given,
        "slots": slots,
        **more,
    }


PAUSED = {
    "state": "paused",
    "reason": "on battery",
    "running": "continue",
    "rules": [{"rule": "power", "known": True}],
    "policy": ["only_when_charging: true", "battery: pause_below 40", "hours: 22:00-07:00"],
}
DEVICES = [
    device(
        "pixel-3", "Pixel 3", "android aarch64 mobile", 2, 4, "memory_usage=52 disk_usage=61 temperature=34 battery=81"
    ),
    device(
        "galaxy-s9",
        "Galaxy S9",
        "android aarch64 mobile",
        2,
        4,
        "memory_usage=58 disk_usage=77 temperature=36 battery=100",
    ),
    device(
        "moto-g6",
        "Moto G6",
        "android armv8l mobile",
        1,
        3,
        "memory_usage=47 disk_usage=44 temperature=31 battery=34 charging=0",
        policy=PAUSED,
    ),
    device(
        "thinkpad-x220",
        "ThinkPad X220",
        "linux x86_64 worker",
        3,
        16,
        "memory_usage=33 disk_usage=22 temperature=45 battery=97",
    ),
    device(
        "pi-4-kitchen",
        "Raspberry Pi 4 Model B",
        "linux aarch64 compute",
        2,
        4,
        "memory_usage=41 disk_usage=35 temperature=51",
    ),
    device(
        "pi-3-attic",
        "Raspberry Pi 3 Model B",
        "linux armv7l compute",
        1,
        1,
        "memory_usage=66 disk_usage=58 temperature=55",
    ),
    device("nas", "HP MicroServer N54L", "linux x86_64 storage", 2, 8, "memory_usage=71 disk_usage=83 temperature=39"),
    device(
        "macbook-2014",
        "MacBook Air 2014",
        "darwin x86_64 worker",
        2,
        8,
        "memory_usage=49 disk_usage=66 temperature=48 battery=88",
    ),
]
WORK = (
    ("transcode holiday-{:02d}.mkv", "film", 24.0),
    ("ocr letter-{:03d}.png", "letters", 5.0),
    ("thumbnails album-{:02d}", "photos", 9.0),
    ("index notes-{:02d}", "notes", 3.0),
    ("backtest run-{:02d}", "numbers", 14.0),
)


def tasks(number: int, seed: int = 7) -> Iterator[dict[str, Any]]:
    """Work of a household, some of which goes wrong."""
    chance = random.Random(seed)
    for each in range(number):
        name, project, duration_s = chance.choice(WORK)
        bad = "!" if chance.random() < 0.05 else ""
        yield {
            "task_type": "sleep",
            "name": name.format(each) + bad,
            "labels": {"project": project},
            "payload": {"duration_s": round(duration_s * chance.uniform(0.5, 1.4), 1)},
            "priority": chance.choice(("low", "normal", "normal", "high")),
            "max_retries": 1,
        }


@contextmanager
def cluster() -> Iterator[tuple[int, Api]]:
    """A main with the devices above, busy; its web port, and its API."""
    with Processes() as processes:
        _, worker_port, web_port = processes.start_main()
        api = Api(web_port, processes.folder)
        listed = processes.folder / "devices.json"
        listed.write_text(json.dumps(DEVICES))
        player = [sys.executable, str(ROOT / "bench" / "played_devices.py"), "--port", str(worker_port)]
        processes.running.append(subprocess.Popen([*player, "--devices", str(listed), "--beat-s", "3"]))
        while api.request("GET", "cluster/status")["devices"]["total"] < len(DEVICES):
            time.sleep(0.1)
        api.request("POST", "tasks", list(tasks(60)))
        held = {
            "task_type": "sleep",
            "payload": {"duration_s": 60},
            "name": "train model",
            "requirements": {"min_memory_gb": 64},
        }
        api.request("POST", "tasks", held)
        api.request("POST", "devices/macbook-2014/cordon")
        yield web_port, api


PICTURES = (
    ("overview", "light", (1200, 1240), "/#/", ""),
    ("overview-dark", "dark", (1200, 800), "/#/", ""),
    ("phone", "dark", (360, 740), "/#/", ""),
    ("timeline", "light", (1200, 560), "/#/timeline", ""),
    ("devices", "light", (1200, 480), "/#/devices", ""),
    ("device", "light", (1200, 860), "/#/devices/thinkpad-x220", ""),
    ("task", "dark", (1200, 900), "/#/tasks?status=assigned,running,cancelling", "open('transcode')"),
    ("why", "light", (1200, 640), "/#/tasks?status=blocked,queued,retrying,held", "open('train model')"),
    ("submit", "light", (1000, 760), "/#/submit", ""),
    ("join", "light", (1000, 760), "/#/join", ""),
    ("plain", "light", (1000, 760), "/cli", ""),
)
"""(name, scheme, size, address, script that runs before the picture)"""
OPEN = """
const open = (words) => [...document.querySelectorAll("#all-tasks tr")]
    .find((row) => row.innerText.includes(words)).querySelector(".link").click();
"""


def take(port: int, api: Api, names: list[str]) -> None:
    """Make the pictures of these names, or all."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(each)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    OUT.mkdir(exist_ok=True)
    try:
        for name, scheme, size, address, script in PICTURES:
            if not names or name in names:
                keep_busy(api, range(1))
                look(driver, scheme, size, f"http://127.0.0.1:{port}{address}", script)
                save(driver.get_screenshot_as_png(), OUT / f"{name}.png")
    finally:
        driver.quit()


def look(driver: Any, scheme: str, size: tuple[int, int], address: str, script: str) -> None:
    """Open an address at a size, and wait until it shows what it has."""
    device = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    scheme_feature = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme_feature)
    driver.get("about:blank")
    driver.get(address)
    time.sleep(3)
    if script:
        driver.execute_script(OPEN + script)
        time.sleep(3)


def save(picture: bytes, path: Path) -> None:
    """Write a picture with 256 colours, which is enough for pages, where Pillow is there; else as it is."""
    try:
        from PIL import Image
    except ImportError:
        path.write_bytes(picture)
        return
    Image.open(BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def keep_busy(api: Api, rounds: Iterable[int]) -> None:
    """Submit more whenever the queue runs low; a round is five seconds."""
    for round_no in rounds:
        if api.request("GET", "cluster/status")["tasks"]["queued"] < 12:
            api.request("POST", "tasks", list(tasks(30, round_no)))
        time.sleep(5)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only these pictures")
    parser.add_argument("--serve", action="store_true", help="only start the cluster, and keep it busy")
    parser.add_argument("--warm-s", type=int, default=240, help="how long the cluster works before the first picture")
    given = parser.parse_args()
    with cluster() as (web_port, demo):
        print(f"http://127.0.0.1:{web_port}/", flush=True)
        keep_busy(demo, count() if given.serve else range(given.warm_s // 5))
        take(web_port, demo, given.names)
