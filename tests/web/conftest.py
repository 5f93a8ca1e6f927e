"""A main node, its web port, and a device that tests play."""

from __future__ import annotations

from typing import Any

import pytest

from tests.web.http import Http


@pytest.fixture
def http(node: Any) -> Http:
    """Requests to a main of the test's own."""
    return http_of(node)


def http_of(node: Any) -> Http:
    token = (node.rooms.database.path.parent / "admin.token").read_text()
    return Http(node.web_port, token)
