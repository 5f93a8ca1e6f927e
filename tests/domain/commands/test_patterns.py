"""Patterns say what Python's own say, and their work is bounded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.commands.patterns import MAX_PATTERN, MAX_WORK, Budget, pattern
from retirecluster.domain.errors import ClusterError

atoms = st.sampled_from(
    ["a", "b", "A", ".", "[ab]", "[^a]", "[a-c]", "\\d", "\\w", "\\S", "^", "$", "\\.", "1", " ", "[\\d-]", "é"]
)
patterns = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: "(" + "|".join(each) + ")"),
        st.tuples(inner, st.sampled_from("*+?")).map(lambda each: f"(?:{each[0]}){each[1]}"),
    ),
    max_leaves=8,
)
lines = st.text("abAB1. cé-", max_size=12)


@given(patterns, st.lists(lines, min_size=1, max_size=4), st.booleans())
def test_it_finds_what_python_finds(text: str, some: list[str], ignore_case: bool) -> None:
    ours, theirs = pattern(text, ignore_case), re.compile(text, re.IGNORECASE if ignore_case else 0)
    for line in some:
        assert ours.is_in(line) == bool(theirs.search(line)), (text, line)


@given(st.text("ab()[]*+?|^$\\{}.-d", max_size=20), lines)
def test_any_text_is_a_pattern_or_refused_in_words(text: str, line: str) -> None:
    try:
        pattern(text).is_in(line)
    except ClusterError as error:
        assert error.code == "bad_field" and error.message.startswith("the pattern of grep -E: ")


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+$",
        "(a|a)*b",
        "(a*)*(a*)*x",
        "(.*.*.*.*)x",
        "([a-z]+)*[0-9]",
        "a?" * 60 + "a" * 60,
        "(a|b)*a" + "(a|b)" * 30,
    ],
)
def test_no_pattern_works_longer_than_it_may(text: str) -> None:
    budget = Budget()
    found = pattern(text, budget=budget)
    try:
        for line in ("a" * 20_000 + "!", "ab" * 10_000, "abba" * 3_000):
            found.is_in(line)
    except ClusterError as error:
        assert "too long" in error.message
    assert MAX_WORK - budget.left <= MAX_WORK + 2 * MAX_PATTERN * 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a" * (MAX_PATTERN + 1), "at most"),
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("[a", "not closed"),
        ("*a", "nothing before"),
        ("a{2,3}", "counts"),
        ("(?=a)", "not understood"),
        ("(a)\\1", "not understood"),
        ("\\x41", "not understood"),
        ("[z-a]", "not a range"),
        ("(" * 30, "nested deeper"),
        ("\\", "not understood"),
    ],
)
def test_what_is_not_understood_is_said(text: str, words: str) -> None:
    with pytest.raises(ClusterError, match="grep -E") as caught:
        pattern(text)
    assert words in caught.value.message
