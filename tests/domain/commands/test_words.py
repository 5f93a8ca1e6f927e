"""Words: quotes and pipes as in a shell, and nothing expanded."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.commands.words import MAX_LINE, MAX_STAGES, quoted, scan, split
from retirecluster.domain.errors import ClusterError

printable = st.text(st.characters(exclude_categories=("C", "Z"), include_characters=" "), max_size=20)
shellish = st.text("ab '\"\\|-=", max_size=30)


def texts(line: str) -> list[list[str]]:
    return [[word.text for word in stage] for stage in split(line)]


@given(st.lists(printable, max_size=6))
def test_quoted_words_come_back_as_they_were(words: list[str]) -> None:
    assert texts(" ".join(map(quoted, words))) == [words]


@given(st.lists(printable, min_size=1, max_size=6))
def test_words_quoted_for_a_shell_come_back_too(words: list[str]) -> None:
    assert texts(shlex.join(words)) == [words]


@given(shellish)
def test_a_line_means_what_it_means_to_a_shell_without_pipes(line: str) -> None:
    if "|" in line:
        return
    try:
        wanted = shlex.split(line)
    except ValueError:
        if not line.endswith("\\"):
            with pytest.raises(ClusterError, match="not closed"):
                split(line)
        return
    assert texts(line) == [wanted]


@given(shellish)
def test_words_are_where_they_say(line: str) -> None:
    at = 0
    for stage in scan(line).stages:
        for word in stage:
            assert at <= word.start < word.end <= len(line)
            assert line[word.start] not in " |" and (word.start == 0 or line[word.start - 1] in " |")
            at = word.end


def test_pipes_and_what_they_need() -> None:
    assert texts("a b|c 'd|e' | f") == [["a", "b"], ["c", "d|e"], ["f"]]
    assert texts("") == [[]]
    for line, words in (
        ("a |", "filter is missing"),
        ("| a", "before |"),
        ("a || b", "filter is missing"),
        ("a" + "|b" * MAX_STAGES, "at most"),
        ("a" * (MAX_LINE + 1), "at most"),
        ("a\nb", "one by one"),
        ("a\x1b[2Jb", "\\x1b"),
        ("a > b", "redirection"),
        ("a && b", "one command"),
        ("a 'b", "not closed"),
    ):
        with pytest.raises(ClusterError) as caught:
            split(line)
        assert caught.value.code == "bad_field" and words in caught.value.message, line
        assert caught.value.message.isprintable()
    assert texts("a '>' b") == [["a", ">", "b"]]
    assert texts("a $HOME *.txt ~ `id` $(id) {a,b} !!") == [
        ["a", "$HOME", "*.txt", "~", "`id`", "$(id)", "{a,b}", "!!"]
    ]
