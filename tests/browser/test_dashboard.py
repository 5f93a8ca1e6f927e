"""The dashboard in a real browser, against a real main and a played device."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from tests.browser.conftest import Browser
from tests.web.conftest import http_of
from tests.web.device import played

pytestmark = pytest.mark.browser
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>'


def url(node: Any, path: str = "/") -> str:
    return f"http://127.0.0.1:{node.web_port}{path}"


async def submit(node: Any, *names: str) -> list[str]:
    documents = [{"task_type": "echo", "payload": {}, "name": name} for name in names]
    answer = await http_of(node).post("/api/v1/tasks", documents)
    return [each["task_id"] for each in answer.data["tasks"]]


@pytest_twisted.ensureDeferred
async def test_a_task_is_seen_from_submit_to_result(node: Any, browser: Browser) -> None:
    await browser.open(url(node))
    await browser.until_text("#state-text", "no devices online")
    assert "No device has registered yet" in await browser.text("main")
    device = await played(node, role=HOSTILE[:40])
    await browser.until_text("#devices", "pixel-3")
    assert "13 %" in await browser.text("#devices")
    [task_id] = await submit(node, "greet")
    task = await device.take()
    device.say("task_progress", {"task_id": task_id, "epoch": task["epoch"], "percent": 40, "message": "half way"})
    await browser.until_text("#running", "half way")
    assert "40 %" in await browser.text("#running")
    await browser.until_text("#devices .runs", "greet")
    await browser.until_text("#events", "started")
    await device.finish(task, "hello from the drawer")
    await browser.until_text("#tasks tr", "completed")
    await browser.until("return document.querySelectorAll('#running li').length === 0")
    await browser.click("#tasks .link")
    await browser.until_text("#details-body", "hello from the drawer")
    assert "pixel-3" in await browser.text("#details-body")
    assert await browser.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_hostile_names_are_text(node: Any, browser: Browser) -> None:
    device = await played(node, platform=HOSTILE)
    await submit(node, HOSTILE)
    task = await device.take()
    device.print(task, 0, HOSTILE)
    await browser.open(url(node))
    await browser.until_text("#devices", HOSTILE)
    await browser.until_text("#tasks", HOSTILE)
    await browser.until_text("#events", HOSTILE)
    await browser.click("#tasks .link")
    await browser.until_text("#details-body", HOSTILE)
    assert await browser.script("return document.querySelectorAll('main img, dialog img, main script').length") == 0
    assert "retire-cluster" in await browser.script("return document.title")
    assert await browser.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_keyboard_is_enough(node: Any, browser: Browser) -> None:
    await submit(node, "first", "second")
    await browser.open(url(node))
    await browser.until_text("#tasks", "first")
    for _ in range(12):
        await browser.keys("\ue004")  # Tab
        if await browser.script("return document.activeElement.matches('#tasks .link')"):
            break
    assert await browser.script("return document.activeElement.innerText") == "second"
    await browser.keys("\ue007")  # Enter
    await browser.until("return document.querySelector('#details').open")
    await browser.until_text("#details-body", "no device has ever joined")
    await browser.keys("\ue00c")  # Escape
    await browser.until("return !document.querySelector('#details').open")
    assert await browser.script("return document.activeElement.innerText") == "second"


@pytest_twisted.ensureDeferred
async def test_it_fits_a_phone_and_follows_the_dark(node: Any, browser: Browser) -> None:
    device = await played(node, device_id="a-device-with-quite-a-long-name.local", platform=HOSTILE)
    await submit(node, HOSTILE, "x" * 190)
    await browser.size(360, 740)
    await browser.open(url(node))
    await browser.until_text("#tasks", "xxx")
    wide = """return [...document.querySelectorAll("body *")]
        .filter((each) => !each.closest(".scroll table") && each.getBoundingClientRect().right > innerWidth + 1)
        .map((each) => each.outerHTML.slice(0, 90))"""
    assert await browser.script(wide) == []
    assert await browser.script("return document.documentElement.scrollWidth") <= 360
    colour = "return getComputedStyle(document.body).backgroundColor"
    await browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    light = await browser.script(colour)
    await browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert await browser.script(colour) != light
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_without_script_there_is_a_plain_page(node: Any, browser: Browser) -> None:
    device = await played(node)
    await submit(node, HOSTILE)
    await browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
    await browser.open(url(node))
    source = await browser.run(lambda: browser.driver.find_element("css selector", "noscript a").get_attribute("href"))
    await browser.open(source)
    body = await browser.run(lambda: browser.driver.find_element("css selector", "body").text)
    assert "pixel-3" in body and HOSTILE in body
    assert await browser.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_it_says_when_the_main_is_gone(make_node: Any, browser: Browser) -> None:
    node = make_node()
    await browser.open(url(node))
    await browser.until("return document.querySelector('#live').innerText === 'live'")
    await node.stopService()
    await browser.until_text("#state-text", "The main does not answer.")
    await browser.until_text("#live", "not live")
