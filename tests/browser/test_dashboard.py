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
TAB, ENTER, ESCAPE, LEFT = "\ue004", "\ue007", "\ue00c", "\ue012"


def url(node: Any, path: str = "/") -> str:
    return f"http://127.0.0.1:{node.web_port}{path}"


async def submit(node: Any, *names: str, **more: Any) -> list[str]:
    documents = [{"task_type": "echo", "payload": {}, "name": name, **more} for name in names]
    answer = await http_of(node).post("/api/v1/tasks", documents)
    return [each["task_id"] for each in answer.data["tasks"]]


async def sign_in(node: Any, browser: Browser) -> None:
    """Give the token that the page has just asked for."""
    await browser.until("return document.querySelector('#sign-in').open")
    await browser.keys(http_of(node).token, ENTER)
    await browser.until("return !document.querySelector('#sign-in').open")


async def appears(browser: Browser, selector: str) -> None:
    """Wait until it is to be seen: what is hidden has text, too."""
    await browser.until("return document.querySelector(arguments[0])?.checkVisibility()", selector)


async def press(browser: Browser, place: str, words: str) -> None:
    """Press the button or link with these words."""
    script = """const all = [...document.querySelectorAll(arguments[0])];
        const found = all.find((each) => each.innerText === arguments[1] && !each.disabled);
        found?.click(); return Boolean(found)"""
    await browser.until(script, place, words)


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
    assert await browser.script("return location.hash") == f"#/tasks/{task_id}"
    assert await browser.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_panel_of_a_task_has_its_output_as_it_comes_and_can_cancel_it(node: Any, browser: Browser) -> None:
    device = await played(node)
    [task_id] = await submit(node, "long")
    task = await device.take()
    await browser.open(url(node, f"/#/tasks/{task_id}"))
    await browser.until_text("#details-body", "running")
    device.print(task, 0, "\x1b[31mfirst\x1b[0m line\n")
    await browser.until_text("#details-body .output", "first line")
    device.print(task, 1, "second line \x1b]52;c;eA==\x07\n")
    await browser.until_text("#details-body .output", "second line")
    assert "was the only device with room" in await browser.text("#details-body")
    await press(browser, "#details .actions button", "Cancel")
    await browser.until_text("#confirm", "Cancel long?")
    await press(browser, "#confirm button", "Cancel the task")
    await sign_in(node, browser)
    await device.expect("task_cancel")
    await device.finish(task, "", status="cancelled")
    await browser.until_text("#details-body .panel-state", "cancelled")
    await press(browser, "#details .actions button", "Run it again")
    await browser.until_text("#notices", "Submitted once more")
    assert (await device.take())["task_id"] != task_id
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_panel_of_a_device_drains_it_after_a_question(node: Any, browser: Browser) -> None:
    device = await played(node)
    await browser.open(url(node))
    await browser.until_text("#devices", "pixel-3")
    await browser.click("#devices .name")
    await browser.until_text("#details-body", "android")
    await browser.until_text("#details-body .sparks", "CPU")
    await press(browser, "#details .actions button", "Drain")
    await press(browser, "#confirm button", "Leave it")
    assert node.rooms.registry.get("pixel-3").draining is False
    await press(browser, "#details .actions button", "Drain")
    await press(browser, "#confirm button", "Drain it")
    await sign_in(node, browser)
    await device.expect("drain")
    await browser.until_text("#details-body .panel-state", "draining")
    await press(browser, "#details .actions button", "Undrain")
    await browser.until_text("#details-body .panel-state", "online")
    await device.leave()
    await browser.until_text("#details-body .panel-state", "disconnected")
    await press(browser, "#details .actions button", "Remove")
    await press(browser, "#confirm button", "Remove it")
    await browser.until("return !document.querySelector('#details').open")
    await appears(browser, "#devices-empty")


@pytest_twisted.ensureDeferred
async def test_a_form_is_made_of_the_types_schema_and_says_errors_at_their_fields(node: Any, browser: Browser) -> None:
    device = await played(node)
    await browser.open(url(node, "/#/submit"))
    await browser.until("return document.querySelector('#submit-type').value === 'command'")
    assert "/bin/sh -c" in await browser.text("#submit-payload")
    await browser.script(
        "const type = document.querySelector('#submit-type'); type.value = 'http_request';"
        "type.dispatchEvent(new Event('change'))"
    )
    assert "GET" in await browser.text("#field-payload-method")
    await browser.script("document.querySelector('#field-payload-max_bytes').value = 'many'")
    await press(browser, "#submit-form button", "Submit")
    await sign_in(node, browser)
    await browser.until_text("#field-payload-max_bytes-error", "number")
    assert "is required" in await browser.text("#field-payload-url-error")
    focused = "return document.activeElement.id"
    assert await browser.script(focused) in ("field-payload-url", "field-payload-max_bytes")
    await browser.script(
        "document.querySelector('#field-payload-url').value = 'https://example.org/';"
        "document.querySelector('#field-payload-max_bytes').value = '100'"
    )
    await press(browser, "#submit-form button", "Submit")
    await browser.until("return document.querySelectorAll('#submit-made li').length === 1")
    task = await device.take()
    assert task["payload"] == {"url": "https://example.org/", "max_bytes": 100}
    assert await browser.text("#field-payload-max_bytes-error") == ""
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_timeline_draws_attempts_and_has_them_as_a_table(node: Any, browser: Browser) -> None:
    device = await played(node, slots=1)
    [first, second] = await submit(node, "first", "second")
    await device.finish(await device.take())
    await device.take()
    await browser.open(url(node, "/#/timeline"))
    await browser.until_text("#timeline-count", "2 attempts on 1 device")
    inked = """const canvas = document.querySelector("canvas");
        const seen = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return seen.some((value, index) => index % 4 === 3 && value > 0)"""
    assert await browser.script(inked)
    await browser.script("document.querySelector('#timeline-canvas').focus()")
    await browser.keys(LEFT)
    await appears(browser, "#timeline-tip")
    await browser.until_text("#timeline-tip", "second")
    await browser.keys(LEFT)
    await browser.until_text("#timeline-tip", "first")
    await browser.keys(ENTER)
    await browser.until("return location.hash === arguments[0]", f"#/tasks/{first}")
    await browser.keys(ESCAPE)
    await browser.until("return location.hash === '#/timeline'")
    await browser.click("#timeline-as-table summary")
    await browser.until_text("#timeline-rows", "second")
    assert await browser.script("return document.querySelectorAll('#timeline-rows tr').length") == 2
    assert await browser.script("return document.querySelector('#timeline-rows a[href*=task]').title") == second
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_devices_are_found_and_sorted(node: Any, browser: Browser) -> None:
    devices = [await played(node, name, slots=slots) for name, slots in (("attic", 3), ("kitchen", 1), ("desk", 2))]
    await browser.open(url(node, "/#/devices"))
    await browser.until_text("#devices-shown", "3 of 3 devices")
    order = "return [...document.querySelectorAll('#devices-rows tr')].map((row) => row.dataset.key)"
    assert await browser.script(order) == ["attic", "desk", "kitchen"]
    await press(browser, "#devices-head button", "Device")
    assert await browser.script(order) == ["kitchen", "desk", "attic"]
    assert await browser.script("return document.querySelector('#devices-head th').ariaSort") == "descending"
    await browser.script("document.querySelector('#devices-search').focus()")
    await browser.keys("kit")
    await browser.until_text("#devices-shown", "1 of 3 devices")
    assert await browser.script(order) == ["kitchen"]
    for device in devices:
        await device.leave()


@pytest_twisted.ensureDeferred
async def test_tasks_are_turned_over_page_by_page(node: Any, browser: Browser) -> None:
    await submit(node, *(f"task {number}" for number in range(120)))
    await submit(node, "held back", labels={"project": "films"})
    await browser.open(url(node, "/#/tasks"))
    rows = "return document.querySelectorAll('#all-tasks tr').length"
    await browser.until(f"{rows} === 100")
    await press(browser, "#screen-tasks button", "Show older ones")
    await browser.until(f"{rows} === 121")
    await browser.script("document.querySelector('#find-label').focus()")
    await browser.keys("project=films")
    await browser.until(f"{rows} === 1")
    await browser.until_text("#all-tasks", "held back")


@pytest_twisted.ensureDeferred
async def test_alerts_name_what_is_in_trouble(node: Any, browser: Browser) -> None:
    device = await played(node, "old-laptop")
    await browser.open(url(node))
    await appears(browser, "#alerts-none")
    await device.leave()
    await browser.until_text("#alerts", "old-laptop has lost its connection")
    [task_id] = await submit(node, "odd")
    assert (await http_of(node).post(f"/api/v1/tasks/{task_id}/hold", {})).status == 200
    await browser.until_text("#alerts", "1 task held back")
    assert await browser.script("return document.querySelector('#alerts-none').hidden")


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
    await browser.until_text("#details-title", HOSTILE)
    await browser.until_text("#details-body .output", HOSTILE)
    await browser.keys(ESCAPE)
    for screen in ("devices", "tasks", "timeline"):
        await browser.script("location.hash = `#/${arguments[0]}`", screen)
        await browser.until("return !document.querySelector(`#screen-${arguments[0]}`).hidden", screen)
    await browser.until_text("#timeline-count", "1 attempt")
    await browser.click("#timeline-as-table summary")
    await browser.until_text("#timeline-rows", HOSTILE)
    found = "return document.querySelectorAll('main img:not([alt]), main img[src=x], dialog img, main script').length"
    assert await browser.script(found) == 0
    assert "retire-cluster" in await browser.script("return document.title")
    assert await browser.complaints() == []
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_the_keyboard_is_enough(node: Any, browser: Browser) -> None:
    await submit(node, "first", "second")
    await browser.open(url(node))
    await browser.until_text("#tasks", "first")
    await browser.keys(TAB)
    assert await browser.script("return document.activeElement.className") == "skip"
    await browser.keys(ENTER)
    assert await browser.script("return document.activeElement.id") == "alerts-title"
    for _ in range(12):
        await browser.keys(TAB)
        if await browser.script("return document.activeElement.matches('#tasks .link')"):
            break
    assert await browser.script("return document.activeElement.innerText") == "second"
    await browser.keys(ENTER)
    await browser.until("return document.querySelector('#details').open")
    await browser.until_text("#details-body", "no device has ever joined")
    await browser.keys(ESCAPE)
    await browser.until("return !document.querySelector('#details').open")
    await browser.until("return document.activeElement.innerText === 'second'")
    assert await browser.script("return location.hash") == "#/"


@pytest_twisted.ensureDeferred
async def test_it_fits_a_phone_and_follows_the_dark(node: Any, browser: Browser) -> None:
    device = await played(node, device_id="a-device-with-quite-a-long-name.local", platform=HOSTILE)
    await submit(node, HOSTILE, "x" * 190)
    await browser.size(360, 740)
    await browser.open(url(node))
    await browser.until_text("#tasks", "xxx")
    wide = """const wide = (each) => each.getBoundingClientRect().right > innerWidth + 1;
        return [...document.querySelectorAll("body *")]
        .filter((each) => !each.closest(".scroll table, nav, .unseen") && wide(each))
        .map((each) => each.outerHTML.slice(0, 90))"""
    for screen in ("", "devices", "tasks", "timeline", "submit", "join", "tokens"):
        await browser.script("location.hash = `#/${arguments[0]}`", screen)
        await browser.until("return !document.querySelector(`#screen-${arguments[0]}`).hidden", screen or "overview")
        assert await browser.script(wide) == [], screen
        assert await browser.script("return document.documentElement.scrollWidth") <= 360, screen
        if screen == "tokens":  # it asks for the token at once
            await browser.keys(ESCAPE)
    colour = "return getComputedStyle(document.body).backgroundColor"
    await browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    light = await browser.script(colour)
    await browser.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark = await browser.script(colour)
    assert dark != light
    await press(browser, "#theme", "Theme: system")
    assert await browser.script(colour) == light
    await browser.open(url(node, "/#/join"))
    assert await browser.script(colour) == light
    await browser.script("localStorage.clear()")
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_without_script_there_is_a_plain_page(node: Any, browser: Browser) -> None:
    device = await played(node)
    [task_id] = await submit(node, HOSTILE)
    await browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
    await browser.open(url(node))
    source = await browser.run(lambda: browser.driver.find_element("css selector", "noscript a").get_attribute("href"))
    await browser.open(source)
    body = await browser.run(lambda: browser.driver.find_element("css selector", "body").text)
    assert "pixel-3" in body and HOSTILE in body

    async def press_link(words: str) -> str:
        link = await browser.run(lambda: browser.driver.find_element("link text", words))
        await browser.run(link.click)
        said: str = await browser.run(lambda: browser.driver.find_element("css selector", "body").text)
        return said

    await device.take()
    assert HOSTILE not in await press_link("waiting")
    assert HOSTILE in await press_link("running")
    assert "Newest tasks on pixel-3" in await press_link("pixel-3")
    assert await browser.complaints() == []
    assert task_id in await press_link(task_id)  # plain text, which cannot name an icon
    await device.leave()


@pytest_twisted.ensureDeferred
async def test_it_says_when_the_main_is_gone_and_goes_on_when_it_is_back(make_node: Any, browser: Browser) -> None:
    node = make_node()
    port = node.web_port
    await browser.open(url(node))
    await browser.until("return document.querySelector('#live').innerText === 'live'")
    await node.stopService()
    await browser.until_text("#state-text", "The main does not answer.")
    await browser.until_text("#live", "not live")
    again = make_node(web_port=port)
    await browser.until("return document.querySelector('#live').innerText === 'live'")
    await browser.until_text("#state-text", "no devices online")
    await submit(again, "after the restart")
    await browser.until_text("#tasks", "after the restart")


@pytest_twisted.ensureDeferred
async def test_tokens_are_made_shown_once_and_revoked(node: Any, browser: Browser) -> None:
    await browser.open(url(node, "/#/tokens"))
    await sign_in(node, browser)
    await browser.until_text("#session", "Sign out")
    await appears(browser, "#tokens-empty")
    await browser.script("document.querySelector('#token-name').focus()")
    await browser.keys("not a name!")
    await press(browser, "#token-form button", "Make a token")
    await browser.until_text("#token-error", "letters, digits")
    await browser.script("document.querySelector('#token-name').select()")
    await browser.keys("reader-1")
    await browser.script("document.querySelector('#token-role').value = 'read'")
    await press(browser, "#token-form button", "Make a token")
    await browser.until_text("#tokens-rows", "reader-1")
    token = await browser.until("return document.querySelector('#token-value code')?.innerText")
    asked = await http_of(node).call("GET", "/api/v1/session", token=False, Authorization=f"Bearer {token}")
    assert (asked.data["role"], asked.data["name"]) == ("read", "token:reader-1")
    await browser.script("location.hash = '#/'")
    await browser.script("location.hash = '#/tokens'")  # the session lasts; the token's text is gone
    await browser.until("return document.querySelector('#token-made').hidden")
    assert token not in await browser.script("return document.documentElement.outerHTML")
    await press(browser, "#tokens-rows button", "Revoke")
    await press(browser, "#confirm button", "Revoke it")
    await appears(browser, "#tokens-empty")
    asked = await http_of(node).call("GET", "/api/v1/session", token=False, Authorization=f"Bearer {token}")
    assert asked.status == 401
    await press(browser, "#session button", "Sign out")
    await browser.until_text("#session", "Sign in")


@pytest_twisted.ensureDeferred
async def test_a_role_that_may_not_is_told_so(node: Any, browser: Browser) -> None:
    made = await http_of(node).post("/api/v1/tokens", {"name": "looker", "role": "read"})
    [task_id] = await submit(node, "waits")
    await browser.open(url(node))
    await press(browser, "#session button", "Sign in")
    await browser.keys(made.data["token"], ENTER)
    await browser.until_text("#session", "looker · read")
    await browser.script("location.hash = `#/tasks/${arguments[0]}`", task_id)
    await press(browser, "#details .actions button", "Hold back")
    await browser.until_text("#notices", "Hold back: ")
    assert "role" in await browser.text("#notices")
    assert (await http_of(node).get(f"/api/v1/tasks/{task_id}")).data["status"] == "queued"
    await browser.keys(ESCAPE)
    await press(browser, "#session button", "Sign out")
    await browser.until_text("#session", "Sign in")


@pytest_twisted.ensureDeferred
async def test_a_main_without_encryption_says_how_devices_join_it(node: Any, browser: Browser) -> None:
    await browser.open(url(node, "/#/join"))
    await browser.until_text("#join-plain-command", "retire-cluster join ADDRESS-OF-THIS-MAIN")
    assert "--host 0.0.0.0" in await browser.text("#join-local")
    await press(browser, "#join-form button", "Make a join command")
    await sign_in(node, browser)
    await browser.until("return document.querySelector('#join-error').innerText.length > 20")
    assert await browser.script("return document.querySelector('#join-result').hidden")


@pytest_twisted.ensureDeferred
async def test_pages_that_were_left_keep_no_connection(node: Any, browser: Browser) -> None:
    for screen in ("", "devices", "tasks", "timeline", "submit", "join", "devices", "tasks"):
        await browser.open("about:blank")
        await browser.open(url(node, f"/#/{screen}"))
        await browser.until("return document.querySelector('#live').innerText === 'live'")
    [task_id] = await submit(node, "seen at once")
    await browser.script("location.hash = `#/tasks/${arguments[0]}`", task_id)
    await browser.until_text("#details-body", "no device has ever joined")


@pytest_twisted.ensureDeferred
async def test_a_join_command_comes_with_its_code(make_node: Any, browser: Browser) -> None:
    node = make_node(tls="on")
    await browser.devtools("Security.setIgnoreCertificateErrors", ignore=True)
    await browser.open(f"https://127.0.0.1:{node.web_port}/#/join")
    await browser.script("document.querySelector('#join-name').value = 'old-phone'")
    await press(browser, "#join-form button", "Make a join command")
    await sign_in(node, browser)
    await browser.until_text("#join-command", "retire-cluster join ")
    await browser.until_text("#join-left", "Good for one device")
    assert await browser.until("return document.querySelector('#join-qr img')?.naturalWidth") > 50
    refused = [
        each for each in await browser.complaints() if "401 (Unauthorized)" not in each
    ]  # it asked for the token
    assert refused == []
