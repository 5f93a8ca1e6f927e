"""The sources of the terminal: types, and what the built files are made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).parents[2] / "web"
pytestmark = pytest.mark.browser


@pytest.fixture
def front_end(monkeypatch: pytest.MonkeyPatch) -> object:
    """The module that builds the front end; it is no part of the package."""
    monkeypatch.syspath_prepend(str(WEB))
    import front_end

    yield front_end
    del sys.modules["front_end"]


def test_types_are_right(front_end) -> None:  # type: ignore[no-untyped-def]
    try:
        node = front_end.install([])
    except front_end.NotBuilt as error:
        pytest.skip(f"the packages of the lock file cannot be had: {error}")
    front_end.check_types(node)


def test_the_lock_file_names_no_registry_and_hashes_everything() -> None:
    packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for name, about in packages.items():
        assert "resolved" not in about, name
        assert not name or about["integrity"].startswith("sha512-"), name


def test_what_was_built_is_made_of_these_sources(front_end) -> None:  # type: ignore[no-untyped-def]
    if not front_end.STAMP.is_file():
        pytest.skip("the front end is not built: python web/front_end.py build")
    assert front_end.is_current(), "python web/front_end.py build"
