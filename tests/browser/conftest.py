"""A headless Chromium, driven from a thread: the main under test runs in this process's reactor."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from tests.support import pause

T = TypeVar("T")
WAIT_S = 10.0


class Browser:
    """A page, and ways to look at it. Every method that talks to the browser is awaited."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run(self, function: Callable[..., T], *arguments: Any) -> Deferred[T]:
        """Call a blocking function in a thread."""
        return deferToThread(function, *arguments)

    async def open(self, url: str) -> None:
        await self.run(self.driver.get, url)

    async def script(self, code: str, *arguments: Any) -> Any:
        """The value of `return ...` in the page."""
        return await self.run(self.driver.execute_script, code, *arguments)

    async def text(self, selector: str) -> str:
        """What a person sees there."""
        found: str = await self.script("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return found

    async def until(self, code: str, *arguments: Any) -> Any:
        """The first true value of a script, asked again and again."""
        began_s = reactor.seconds()
        while True:
            found = await self.script(code, *arguments)
            if found:
                return found
            if reactor.seconds() - began_s > WAIT_S:
                body = await self.text("body")
                raise AssertionError(f"never true: {code} {arguments}; the page says:\n{body}")
            await pause(0.05)

    async def until_text(self, selector: str, wanted: str) -> None:
        await self.until(
            "return document.querySelector(arguments[0])?.innerText.includes(arguments[1])", selector, wanted
        )

    async def click(self, selector: str) -> None:
        await self.script("document.querySelector(arguments[0]).click()", selector)

    async def keys(self, *keys: str) -> None:
        """Type where the focus is."""
        await self.run(lambda: self.driver.switch_to.active_element.send_keys(*keys))

    async def devtools(self, command: str, **arguments: Any) -> None:
        await self.run(self.driver.execute_cdp_cmd, command, arguments)

    async def size(self, width: int, height: int) -> None:
        await self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def complaints(self) -> list[str]:
        """What the page wrote to the console: errors, and violations of its own policy."""
        found = await self.run(self.driver.get_log, "browser")
        return [str(each["message"]) for each in found]


@pytest.fixture(scope="session")
def _driver() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no chromium and chromedriver on this machine: the dashboard is not looked at")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for each in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000"):
        options.add_argument(each)
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture
def browser(_driver: Any) -> Iterator[Browser]:
    """A Chromium with an empty page."""
    _driver.get("about:blank")
    _driver.get_log("browser")
    yield Browser(_driver)
    _driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    _driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    _driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    _driver.get("about:blank")
