"""The page of the terminal, with and without a front end that was built."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted

from tests.web.conftest import http_of
from tests.web.http import Http


@pytest_twisted.ensureDeferred
async def test_the_page_loads_the_script_or_says_what_to_do(http: Http) -> None:
    answer = await http.get("/terminal")
    script = await http.get("/static/terminal.js")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/html")
    if script.status == 200:
        assert "/static/terminal.js" in answer.text
        assert (await http.get("/static/terminal.licences.txt")).text.count("Copyright") >= 2
    else:
        assert "pip install" in answer.text


@pytest_twisted.ensureDeferred
async def test_where_the_front_end_was_not_built_the_page_says_so(
    make_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retirecluster.web import pages

    load = pages.load_assets
    monkeypatch.setattr(
        pages, "load_assets", lambda: {name: each for name, each in load().items() if name != "terminal.js"}
    )
    answer = await http_of(make_node()).get("/terminal")
    assert answer.status == 200
    assert "The terminal is not in this installation" in answer.text and "pip install ." in answer.text
    assert "<script" not in answer.text
