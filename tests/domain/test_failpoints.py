"""Failpoints cost nothing and do nothing unless the environment names one."""

from __future__ import annotations

import pytest

from retirecluster.domain.errors import ClusterError
from retirecluster.domain.failpoints import FAILPOINTS, VARIABLE, armed, unarmed


def test_not_armed_they_are_one_call_that_does_nothing() -> None:
    assert armed("main", {}, lambda: None) is unarmed
    assert armed("main", {VARIABLE: ""}, lambda: None) is unarmed


def test_the_nth_time_counts() -> None:
    died: list[int] = []
    reached = armed("worker", {VARIABLE: "while-stopping:3"}, lambda: died.append(1))
    for passes, deaths in ((1, 0), (2, 0), (3, 1), (4, 1)):
        reached("after-accept-before-start")
        reached("while-stopping")
        assert len(died) == deaths, passes


def test_those_of_the_other_daemon_are_ignored() -> None:
    for each in FAILPOINTS.values():
        other = {"main": "worker", "worker": "main"}[each.daemon]
        assert armed(other, {VARIABLE: each.name}, lambda: None) is unarmed
        assert armed(each.daemon, {VARIABLE: each.name}, lambda: None) is not unarmed


@pytest.mark.parametrize("text", ["nowhere", "while-stopping:", "while-stopping:0", "while-stopping:-1", ":1"])
def test_a_name_that_is_not_known_is_a_mistake_in_the_configuration(text: str) -> None:
    if text == "while-stopping:":
        assert armed("worker", {VARIABLE: text}, lambda: None) is not unarmed
        return
    with pytest.raises(ClusterError, match="after-decide-before-commit") as caught:
        armed("main", {VARIABLE: text}, lambda: None)
    assert caught.value.code == "bad_config"
