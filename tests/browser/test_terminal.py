"""The terminal in a real browser, against a real main: keys in, screen text out."""

from __future__ import annotations

import random
import sys
import unicodedata
from typing import Any

import pytest
import pytest_twisted

from retirecluster.render.cells import text_width
from tests.browser.terminal import (
    BACKSPACE,
    DELETE,
    DOWN,
    END,
    ENTER,
    ESCAPE,
    HOME,
    LEFT,
    SHIFT_TAB,
    TAB,
    UP,
    TerminalPage,
    control,
    needs_the_front_end,
    page,
)
from tests.support import pause
from tests.web.conftest import http_of
from tests.web.device import played

pytestmark = [pytest.mark.browser, needs_the_front_end]
__all__ = ["page"]


async def submit(node: Any, **fields: Any) -> str:
    """The id of a new task."""
    answer = await http_of(node).post("/api/v1/tasks", {"task_type": "echo", "payload": {}} | fields)
    return str(answer.data["task_id"])


def admin_token(node: Any) -> str:
    return (node.rooms.database.path.parent / "admin.token").read_text().strip()


@pytest_twisted.ensureDeferred
async def test_commands_are_typed_completed_and_answered(node: Any, page: TerminalPage) -> None:
    device = await played(node)
    await page.open(node)
    await page.until_cluster("1/1 online")
    await http_of(node).post("/api/v1/cluster/quiet", {"for_s": 600, "reason": "a film"})
    await page.until_cluster("1 alert")
    assert "film" in await page.browser.script("return document.querySelector('.alerts').title")
    await http_of(node).call("DELETE", "/api/v1/cluster/quiet")
    await page.run("devices list")
    screen = await page.until("pixel-3")
    assert "❯ devices list" in screen and "STATUS" in screen
    await page.run("devices drane")
    await page.until("did you mean drain?")
    await page.keys("devi", TAB)
    await page.until_line("devices ")
    await page.keys("sh", TAB)
    await page.until_line("devices show ")
    await page.keys("pi", TAB)
    await page.until_line("devices show pixel-3 ")
    await page.keys(ENTER)
    await page.until("android")
    await page.keys("tasks w", TAB)
    screen = await page.until("why a task waits")
    assert "wait for the end of tasks" in screen
    assert (await page.line())[0] == "tasks w", "what was typed still stands there"
    await page.keys(control("c"))
    await page.until("❯ tasks w^C")
    await page.run("devices list | grep online | wc -l")
    await page.until("\n1\n")
    await page.run("help theme")
    await page.until("theme [matrix|amber|blue|contrast]")
    assert await page.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_line_is_edited(node: Any, page: TerminalPage) -> None:
    await page.open(node)
    await page.keys("cho hello", HOME, "e", END, " world")
    await page.until_line("echo hello world")
    await page.keys(control("w"), "there", LEFT, BACKSPACE, DELETE, "e")
    await page.until_line("echo hello thee")
    await page.keys(control("a"), control("k"))
    await page.until_line("")
    await page.keys(control("y"), control("e"), " 日本語e\u0301", LEFT, LEFT, BACKSPACE)
    await page.until_line("echo hello thee 日語e\u0301")
    await page.keys(control("e"), BACKSPACE)
    await page.until_line("echo hello thee 日語")
    await page.keys(ENTER)
    await page.until("\nhello thee 日語\n")
    columns = (await page.size())["columns"]
    await page.keys("echo " + "long" * columns)
    await page.keys(HOME, "x", END, "y")
    await page.until_line("xecho " + "long" * columns + "y")
    joined = (await page.screen()).replace("\n", "")
    assert joined.endswith("❯ xecho " + "long" * columns + "y"), "a line over several rows is drawn whole, once"
    await page.keys(control("u"))
    await page.until_line("")
    assert "xecho" not in await page.screen(), "no row of it stays behind"


@pytest_twisted.ensureDeferred
async def test_lines_are_remembered_searched_and_survive_a_reload(node: Any, page: TerminalPage) -> None:
    await page.open(node)
    for line in ("echo first", "echo second", "echo third", " echo secret"):
        await page.run(line)
    await page.keys(UP)
    await page.until_line("echo third")
    await page.keys(UP, UP, DOWN)
    await page.until_line("echo second")
    await page.keys(DOWN, DOWN)
    await page.until_line("")
    await page.open(node)
    await page.keys(control("r"), "ir")
    await page.until("(search: 'ir') echo third")
    await page.keys(control("r"))
    await page.until("(search: 'ir') echo first")
    await page.keys("zzz")
    await page.until("nothing has 'irzzz'")
    await page.keys(ESCAPE)
    await page.until_line("")
    await page.keys(control("r"), "sec", ENTER)
    await page.until("\nsecond\n")
    await page.run("history")
    screen = await page.until("1  echo first")
    assert "secret" not in screen, "lines that begin with a blank are not remembered"


@pytest_twisted.ensureDeferred
async def test_what_changes_something_asks_for_the_token_once(node: Any, page: TerminalPage) -> None:
    device = await played(node)
    await page.open(node)
    await page.keys("devices cordon pixel-3", ENTER)
    await page.until("Token:")
    await page.keys("wrong")
    await page.until("Token: •••••")
    await page.keys(ENTER)
    await page.ready()
    await page.until("the main does not know this token")
    assert node.rooms.cluster.devices()[0]["status"] == "online"
    await page.keys("devices cordon pixel-3", ENTER)
    await page.until_last("Token:")
    token = admin_token(node)
    await page.keys(token, ENTER)
    await page.ready()
    assert node.rooms.cluster.devices()[0]["status"] == "cordoned"
    await page.run("devices uncordon pixel-3")
    assert node.rooms.cluster.devices()[0]["status"] == "online"
    buffer = "\n".join(await page.browser.script("return retireTerminal.buffer()"))
    assert token not in buffer
    kept = await page.browser.script("return JSON.stringify({...localStorage, ...sessionStorage})")
    assert token not in kept and "wrong" not in kept
    await page.open(node)
    await page.keys(UP)
    await page.until_line("devices uncordon pixel-3")
    await page.keys(control("u"))
    await page.run("devices cordon pixel-3")
    assert node.rooms.cluster.devices()[0]["status"] == "cordoned", "the session outlives the page"
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_monitors_go_on_until_ctrl_c(node: Any, page: TerminalPage) -> None:
    device = await played(node)
    await page.open(node)
    hub = node.site.hub
    for line in ("monitor tasks", "tasks monitor", "monitor events"):
        await page.keys(line, ENTER)
        await page.browser.until("return retireTerminal.busy()")
        await until(lambda: hub.readers == 1)
        task_id = await submit(node, name="watched")
        await page.until(task_id)
        task = await device.take()
        await device.finish(task)
        await page.until("completed")
        await page.keys(control("c"))
        await page.ready()
        await until(lambda: hub.readers == 0)
        await page.run("clear")
    await page.keys("monitor metrics", ENTER)
    await page.until("every 2 s")
    assert "streams" in await page.screen()
    await page.keys("echo typed ahead", ENTER, control("c"))
    await page.ready()
    assert "every 2 s" not in await page.screen(), "what it said last stays, its title does not"
    assert await page.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_output_is_followed_and_the_end_waited_for(node: Any, page: TerminalPage) -> None:
    device = await played(node)
    await page.open(node)
    task_id = await submit(node)
    task = await device.take()
    await page.keys("tasks logs -f last", ENTER)
    device.print(task, 0, "one\n\x1b[3")
    await page.until("one")
    device.print(task, 1, "1mred\x1b[0m\ntwo")
    await page.until("red\ntwo")
    await device.finish(task, "one\nred\ntwo")
    await page.until("— completed, exit code 0")
    await page.ready()
    failing = await submit(node, max_retries=0)
    task = await device.take()
    await page.keys("tasks wait last", ENTER)
    await page.until("1 of 1 have not ended")
    await device.finish(task, status="failed", error={"message": "it broke"})
    await page.until(f"{failing}  failed")
    await page.ready()
    await submit(node)
    task = await device.take()
    await page.keys("tasks wait last", ENTER, "echo next", ENTER)
    await page.browser.until("return retireTerminal.busy()")
    await device.finish(task)
    await page.until("\nnext\n")
    assert task_id in await page.run_and_read("tasks list")
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_watching_redraws_in_place(node: Any, page: TerminalPage) -> None:
    await page.open(node)
    await page.keys("tasks list --watch 1", ENTER)
    await page.until("every 1 s")
    task_id = await submit(node)
    screen = await page.until(task_id)
    assert screen.count("every 1 s") == 1 and "help lists" not in screen
    await page.browser.size(640, 600)
    await page.browser.until("return retireTerminal.size().columns < 90")
    screen = await page.until("…")
    assert screen.count("every 1 s") == 1 and "help lists" not in screen
    await page.keys(control("c"))
    await page.ready()
    screen = await page.until("help lists the commands")
    assert screen.count(task_id) == 1 and screen.endswith("❯")


@pytest_twisted.ensureDeferred
async def test_pasted_lines_run_one_by_one(node: Any, page: TerminalPage) -> None:
    await page.open(node)
    await page.keys("ec")
    await page.paste("ho one\r\necho two\n\n\techo three\necho unfinished")
    await page.until("\nthree\n")
    await page.until_line("echo unfinished")
    screen = await page.screen()
    assert screen.index("\none\n") < screen.index("\ntwo\n") < screen.index("\nthree\n")
    await page.keys(control("u"))
    await page.paste("".join(f"echo line {number}\n" for number in range(8)))
    await page.until("Run 8 lines? [y/N]")
    await page.keys("n", ENTER)
    await page.paste("".join(f"echo line {number}\n" for number in range(8)))
    await page.browser.until("return retireTerminal.screen().filter((line) => line.startsWith('Run 8')).length === 2")
    assert "\nline 0" not in await page.screen()
    await page.keys("y", ENTER)
    await page.until("\nline 7\n")
    await page.run("clear")
    await page.run("echo copied-word")
    await page.click_on("copied-word", times=2)
    await page.keys(control("c"))
    assert await page.clipboard() == "copied-word"
    assert "^C" not in await page.screen(), "with a selection Ctrl+C copies, and stops nothing"
    await page.paste("\x1b]52;c;ZXZpbA==\x07 \x1b[2J rm\x03 -rf")
    await page.browser.until("return retireTerminal.line().text.includes('-rf')")
    assert (await page.line())[0].isprintable()


@pytest_twisted.ensureDeferred
async def test_a_resize_draws_the_table_for_the_new_width(node: Any, page: TerminalPage) -> None:
    device = await played(node, device_id="a-device-with-quite-a-long-name.local")
    await submit(node, name="a name that needs room to be read in full")
    await page.browser.size(1300, 800)
    await page.open(node)
    await page.keys("tasks list", ENTER)
    await page.until("read in full")
    await page.ready()
    await page.keys("echo half a li")
    wide = (await page.size())["columns"]
    await page.browser.size(620, 800)
    await page.browser.until("return retireTerminal.size().columns < arguments[0] / 2 + 10", wide)
    await page.until("…")
    narrow = (await page.size())["columns"]
    screen = await page.screen()
    assert all(text_width(line) <= narrow for line in screen.split("\n"))
    assert screen.endswith("❯ echo half a li") and screen.count("❯ tasks list") == 1
    await page.browser.size(1300, 800)
    await page.until("read in full")
    assert (await page.screen()).endswith("❯ echo half a li")
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_themes_and_settings_are_remembered(node: Any, page: TerminalPage) -> None:
    await page.open(node)
    colours = set()
    for theme in ("matrix", "amber", "blue", "contrast"):
        await page.run(f"theme {theme}")
        await page.browser.until("return retireTerminal.theme() === arguments[0]", theme)
        colours.add(await page.browser.script("return getComputedStyle(document.body).backgroundColor"))
        drawn = "return getComputedStyle(document.querySelector('.xterm-rows')).color"
        colours.add(await page.browser.script(drawn))
    assert len(colours) == 8, "each theme has a ground and a colour of its own"
    await page.run("set format json")
    await page.open(node)
    assert await page.browser.script("return retireTerminal.theme()") == "contrast"
    assert await page.browser.script("return document.querySelector('#theme').value") == "contrast"
    await page.run("devices list")
    await page.until("\n[]\n")
    await page.run("set")
    await page.until("table json csv tsv")
    await page.run("theme pink")
    await page.until('theme is one of matrix, amber, blue, contrast; not "pink"')
    await page.run("set format table")
    await page.run("theme matrix")
    await page.run("clear")
    assert await page.screen() == "❯"
    assert await page.complaints() == []


@pytest_twisted.ensureDeferred
async def test_tabs_run_side_by_side(node: Any, page: TerminalPage) -> None:
    await page.open(node)
    await page.keys("monitor tasks", ENTER)
    await page.browser.until("return retireTerminal.tabs()[0] === 'monitor tasks'")
    await page.browser.click("#new-tab")
    await page.until("help lists")
    await page.run("echo in the second")
    task_id = await submit(node)
    assert task_id not in await page.screen()
    await page.browser.click("#tabs button")
    await page.until(task_id)
    await page.keys(control("c"))
    await page.ready()
    await page.keys("exit", ENTER)
    await page.until("in the second")
    assert await page.browser.script("return retireTerminal.tabs()") == ["terminal"]
    await page.keys(SHIFT_TAB)
    focused = "return document.activeElement.id || document.activeElement.className"
    assert await page.browser.script(focused) == "new-tab", "the keyboard alone leads out of the terminal"
    await page.keys(ENTER)
    await page.browser.until("return retireTerminal.tabs().length === 2")
    await page.run("exit")
    await page.keys(control("d"))
    await page.browser.until("return location.pathname === '/'")


@pytest_twisted.ensureDeferred
async def test_a_click_on_an_id_opens_it(node: Any, page: TerminalPage) -> None:
    device = await played(node)
    task_id = await submit(node, name="clicked")
    await page.open(node)
    await page.run("tasks list")
    await page.until(task_id)
    await page.click_on(task_id)
    await page.until(f"❯ tasks show {task_id}")
    await page.ready()
    await page.run("clear")
    await page.run("devices list")
    await page.until("pixel-3")
    await page.click_on("pixel-3")
    await page.until("❯ devices show pixel-3")
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_it_says_when_the_main_is_gone_and_goes_on_when_it_is_back(make_node: Any, page: TerminalPage) -> None:
    node = make_node()
    port = node.web_port
    await page.open(node)
    await page.until_cluster("no devices online")
    await page.keys("monitor tasks", ENTER)
    await until(lambda: node.site.hub.readers == 1)
    await node.stopService()
    await page.until("the connection to the main is lost; trying again")
    await page.until_cluster("does not answer")
    node = make_node(web_port=port)
    await page.until("— connected again")
    await page.until("the main was restarted")
    await until(lambda: node.site.hub.readers == 1)
    task_id = await submit(node)
    await page.until(task_id)
    await page.keys(control("c"))
    await page.ready()
    await page.run("tasks list")
    await page.until(task_id)


HOSTILE = {
    "html": '<img src=x onerror="document.title=1"><script>document.title=2</script>',
    "title": "\x1b]0;owned\x07\x1b]2;owned\x1b\\",
    "clipboard": "\x1b]52;c;b3duZWQ=\x07",
    "link": "\x1b]8;;javascript:document.title=3\x07click\x1b]8;;\x07",
    "queries": "\x1b[c\x1b[>c\x1b[6n\x1b[5n\x1b[?6n\x1bP$qm\x1b\\\x1b[21t\x1b]10;?\x07\x1bZ",
    "modes": "\x1b[?1049h\x1b[2J\x1b[H\x1b[?25l\x1b[?1000h\x1b[?2004h\x1bc\x1b[8m\x1b[r",
    "c1": "\x9b2J\x9d0;owned\x9c\x90q\x9c\x85",
    "bidi": "\u202eexe.gpj\u2066\u2069\u200f\u2028",
    "prompt": "\r❯ rm -rf /\x08\x08\x0b\x0c\x0e",
    "cut": "\x1b[" + "1;" * 60 + "m\x1b",
}


@pytest_twisted.ensureDeferred
async def test_hostile_output_and_names_change_nothing_but_text(node: Any, page: TerminalPage) -> None:
    device = await played(node, role=HOSTILE["html"][:40], platform=HOSTILE["html"])
    await page.open(node)
    await page.browser.script("window.wrote = []; navigator.clipboard.writeText = (text) => window.wrote.push(text)")
    before = await page.browser.script("return [document.title, document.querySelectorAll('*').length > 0]")
    await submit(node, name=HOSTILE["html"])
    task = await device.take()
    everything = "long:" + "x" * 1_000_000 + "\n" + "\n".join(f"{name}:{text}" for name, text in HOSTILE.items())
    await page.keys("tasks logs -f last", ENTER)
    for seq, start in enumerate(range(0, len(everything), 60_000)):
        device.print(task, seq, everything[start : start + 60_000])
    await page.until_buffer("a line of more than 20,000 characters")
    device.print(task, 99, "\nthe end\n")
    await page.until("the end")
    await device.finish(task, everything, reason="\x1b]0;owned\x07")
    await page.ready()
    shown = "\n".join(await page.browser.script("return retireTerminal.buffer()"))
    for name in ("html", "link"):
        assert f"{name}:" in shown
    assert "onerror" in shown and "\\x1b]52;c;" in shown and "\\u202eexe.gpj" in shown and "\\x9b2J" in shown
    assert (await page.line())[0] == "", "nothing was typed by an answer of the terminal"
    for line in ("clear", "tasks logs last | tail -30", "tasks list", "devices list --wide", "tasks show last"):
        await page.run(line)
    await page.run("clear")
    await page.run("tasks logs last | tail -12")
    shown = await page.until("\\x1b]0;owned")
    assert "\\x1b[?1049h\\x1b[2J" in shown.replace("\n", "")
    assert await page.browser.script("return [document.title, document.querySelectorAll('*').length > 0]") == before
    assert (
        await page.browser.script(
            "return document.querySelectorAll('#screens img, #screens script, #screens a').length"
        )
        == 0
    )
    assert await page.browser.script("return window.wrote") == []
    assert (await page.line())[0] == ""
    assert await page.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_characters_are_as_wide_as_the_renderer_says(node: Any, page: TerminalPage) -> None:
    device = await played(node)
    names = ["表 日本語", "e\u0301 combined", "🎉 party", "🇩🇪 flag", "plain"]
    for name in names:
        await submit(node, name=name)
    await page.open(node)
    screen = await page.run_and_read("tasks list")
    await device.leave()
    rows = [line for line in screen.split("\n") if "echo" in line and "task-" in line]
    assert len(rows) == 5
    places = {text_width(row[: row.index("echo")]) for row in rows}
    assert len(places) == 1, f"columns stand under each other: {rows}"
    known = [
        chr(code)
        for code in range(0x20, sys.maxunicode)
        if unicodedata.category(chr(code)) not in ("Cc", "Cs", "Cn", "Co")
    ]
    some = random.Random(7).sample(known, 3000)
    found = await page.browser.script("return arguments[0].map(retireTerminal.width)", some)
    assert found == [text_width(each) for each in some]


@pytest_twisted.ensureDeferred
async def test_it_fits_a_phone_and_has_the_keys_that_phones_lack(node: Any, page: TerminalPage) -> None:
    device = await played(node)
    await page.browser.size(360, 640)
    await page.open(node)
    assert await page.browser.script("return document.documentElement.scrollWidth") <= 360
    await page.keys("devices li")
    await page.browser.click("#keys button")
    await page.until_line("devices list ")
    await page.keys(ENTER)
    screen = await page.until("pix…")
    columns = (await page.size())["columns"]
    assert 30 < columns < 60 and all(text_width(line) <= columns for line in screen.split("\n"))
    await page.keys("monitor tasks", ENTER)
    await page.browser.until("return retireTerminal.busy()")
    await page.browser.click("#keys button:last-child")
    await page.ready()
    await device.leave()


async def until(condition: Any) -> None:
    """Wait for something that this process can see."""
    for _ in range(200):
        if condition():
            return
        await pause(0.05)
    raise AssertionError("it never became true")
