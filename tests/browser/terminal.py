"""The terminal's page, driven with real keys and read through its own `retireTerminal`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Browser
from tests.support import pause

BUILT = Path(__file__).parents[2] / "retirecluster" / "web" / "static" / "built" / "terminal.js"
needs_the_front_end = pytest.mark.skipif(
    not BUILT.is_file(), reason="the front end is not built: python web/front_end.py build"
)
ENTER, TAB, ESCAPE, BACKSPACE = "\ue007", "\ue004", "\ue00c", "\ue003"
LEFT, UP, RIGHT, DOWN, HOME, END, DELETE = "\ue012", "\ue013", "\ue014", "\ue015", "\ue011", "\ue010", "\ue017"
SHIFT_TAB = "\ue008\ue004\ue000"
CONTROL, NO_MODIFIER = "\ue009", "\ue000"


def control(key: str) -> str:
    """Ctrl and a key, as selenium writes it."""
    return f"{CONTROL}{key}{NO_MODIFIER}"


class TerminalPage:
    """One page with the terminal."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    async def open(self, node: Any) -> None:
        await self.browser.open(f"http://127.0.0.1:{node.web_port}/terminal")
        await self.browser.until("return window.retireTerminal !== undefined")
        await self.until("help lists the commands")
        await self.ready()

    async def ready(self) -> None:
        """The prompt stands there, and no command runs."""
        await self.browser.until("return !retireTerminal.busy()")

    async def keys(self, *keys: str) -> None:
        await self.browser.keys(*keys)

    async def run(self, line: str) -> None:
        """Type a line and Enter, and wait until the prompt is there again."""
        await self.keys(line, ENTER)
        await self.browser.until("return !retireTerminal.busy() && retireTerminal.line().text === ''")

    async def screen(self) -> str:
        """What can be seen, without blanks at line ends."""
        lines: list[str] = await self.browser.script("return retireTerminal.screen()")
        return "\n".join(line.rstrip() for line in lines).rstrip()

    async def line(self) -> tuple[str, int]:
        """The line at the prompt, and the cursor's place in it."""
        found = await self.browser.script("return retireTerminal.line()")
        return found["text"], found["cursor"]

    async def until(self, wanted: str) -> str:
        """The screen, once a text can be seen on it; line ends where the terminal wrapped are no hindrance."""
        code = "return retireTerminal.screen().join('\\n').includes(arguments[0])"
        try:
            await self.browser.until(code, wanted)
        except AssertionError:
            raise AssertionError(f"{wanted!r} is never on the screen:\n{(await self.screen())[-4000:]}") from None
        return await self.screen()

    async def until_buffer(self, wanted: str) -> None:
        """Wait for a text that may have been scrolled out of sight."""
        await self.browser.until("return retireTerminal.buffer().join('').includes(arguments[0])", wanted)

    async def until_last(self, wanted: str) -> None:
        """Wait for the last line on the screen to be this."""
        code = "return retireTerminal.screen().join('\\n').trimEnd().split('\\n').at(-1).trimEnd() === arguments[0]"
        await self.browser.until(code, wanted)

    async def until_line(self, wanted: str) -> None:
        """Wait for the line at the prompt to be this."""
        await self.browser.until("return retireTerminal.line().text === arguments[0]", wanted)

    async def until_cluster(self, wanted: str) -> None:
        """Wait for a text in the line above the terminal."""
        await self.browser.until_text("#state", wanted)

    async def run_and_read(self, line: str) -> str:
        """The screen after a command."""
        await self.run(line)
        return await self.screen()

    async def size(self) -> dict[str, int]:
        """Columns and rows."""
        found: dict[str, int] = await self.browser.script("return retireTerminal.size()")
        return found

    async def click_on(self, text: str, times: int = 1) -> None:
        """Click on a text with the mouse, where it can be seen; twice selects the word."""
        place = await self.browser.script(
            """const lines = retireTerminal.screen();
            const row = lines.findLastIndex((line) => line.includes(arguments[0]));
            const column = lines[row].indexOf(arguments[0]) + 2;
            const box = document.querySelector(".panel.seen .xterm-screen").getBoundingClientRect();
            const { columns, rows } = retireTerminal.size();
            return [box.left + (box.width / columns) * column, box.top + (box.height / rows) * (row + 0.5)];""",
            text,
        )
        where = {"x": place[0], "y": place[1]}
        press = {"button": "left", "clickCount": times, **where}
        for event in (
            {"type": "mouseMoved", **where},
            {"type": "mousePressed", "buttons": 1, **press},
            {"type": "mouseReleased", "buttons": 0, **press},
        ):
            await self.browser.devtools("Input.dispatchMouseEvent", **event)
            await pause(0.1)

    async def clipboard(self) -> str:
        """What was copied last."""
        await self._open_clipboard()
        code = "navigator.clipboard.readText().then(arguments[0])"
        copied: str = await self.browser.run(self.browser.driver.execute_async_script, code)
        return copied

    async def paste(self, text: str) -> None:
        """Paste with Ctrl+V what another program has copied."""
        await self._open_clipboard()
        code = "navigator.clipboard.writeText(arguments[0]).finally(() => arguments[1]())"
        await self.browser.run(self.browser.driver.execute_async_script, code, text)
        await self.keys(control("v"))

    async def _open_clipboard(self) -> None:
        origin = await self.browser.script("return location.origin")
        await self.browser.devtools(
            "Browser.grantPermissions", origin=origin, permissions=["clipboardReadWrite", "clipboardSanitizedWrite"]
        )

    async def complaints(self) -> list[str]:
        """What the page wrote to the console; that the main refused something is not one."""
        return [each for each in await self.browser.complaints() if "Failed to load resource" not in each]


@pytest.fixture
def page(browser: Browser) -> TerminalPage:
    """A terminal, not opened yet."""
    return TerminalPage(browser)
