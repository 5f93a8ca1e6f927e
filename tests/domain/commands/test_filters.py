"""Filters do what those of a shell do, on lines, within bounds."""

from __future__ import annotations

import subprocess
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.commands.filters import MAX_CHARS, bounded, filtered
from retirecluster.domain.commands.grammar import parse
from retirecluster.domain.errors import ClusterError

lines = st.lists(st.text("abAB 19-,x", max_size=12), max_size=8)


def through(some: list[str], filters: str) -> list[str]:
    found = parse(f"devices | {filters}")
    assert found is not None
    return filtered(some, found.filters)


@given(lines, st.integers(0, 10))
def test_heads_and_tails(some: list[str], count: int) -> None:
    assert through(some, f"head -{count}") == some[:count]
    assert through(some, f"tail -n {count}") == some[len(some) - min(count, len(some)) :]
    assert through(some, f"head -n {count} | wc -l") == [str(min(count, len(some)))]


@given(lines, st.text("abAB1", min_size=1, max_size=3))
def test_grep_and_its_opposite_share_all_lines(some: list[str], text: str) -> None:
    for options in ("", "-i", "-E", "-iE"):
        kept, left = through(some, f"grep {options} {text}"), through(some, f"grep -v {options} {text}")
        assert sorted(kept + left) == sorted(some)
        assert through(some, f"grep -c {options} {text}") == [str(len(kept))]
    assert through(some, f"grep {text}") == [line for line in some if text in line] == through(some, f"grep -E {text}")
    assert through(some, f"grep -i {text}") == through(some, f"grep -iE {text}")


def test_all_patterns_of_a_line_share_one_budget() -> None:
    some = ["".join(Random(2).choices("ab", k=300)) for _ in range(40)]
    hard = "grep -v -E '(a|b)*a" + "(a|b)" * 9 + "c'"
    assert through(some, hard) == some
    with pytest.raises(ClusterError, match="takes too long"):
        through(some, " | ".join([hard] * 7))


@given(lines)
def test_sorting_keeps_lines(some: list[str]) -> None:
    assert through(some, "sort") == sorted(some) and through(some, "sort -r") == sorted(some, reverse=True)
    assert sorted(through(some, "sort -k 2 -n")) == sorted(some)
    assert through(some, "sort -u") == sorted(set(some))
    assert through(["b 10", "a 9", "c x"], "sort -k 2 -n") == ["c x", "a 9", "b 10"]


LIST = ("1", "1,3", "2-", "-2", "2-3", "3,1", "1-2,2-4", "9")


@pytest.mark.parametrize("columns", LIST)
def test_cut_cuts_as_the_real_one(columns: str) -> None:
    some = ["a,b,c,d", "1,2,3", "x,,y,", "äöü,ß"]
    for options in (f"-d , -f {columns}", f"-c {columns}"):
        text = "".join(f"{line}\n" for line in some[:3])
        real = subprocess.run(["cut", *options.split()], input=text, capture_output=True, text=True, check=True)
        assert through(some[:3], f"cut {options}") == real.stdout.splitlines()
    assert through(["a  b   c"], "cut -f 1,3") == ["a  c"]


@pytest.mark.parametrize(
    "options", ["-f 0", "-f a", "-f 3-2", "-f ''", "-c 1,,2", "-f -", "-f " + "1," * 100 + "1", "", "-f 1 -d ''"]
)
def test_lists_that_are_none(options: str) -> None:
    with pytest.raises(ClusterError) as caught:
        through(["a b"], f"cut {options}")
    assert caught.value.code == "bad_field" and caught.value.message.startswith("cut:")


def test_long_output_is_cut_and_says_so() -> None:
    some = ["x" * 1000] * 2000
    kept = bounded(some)
    assert sum(len(line) + 1 for line in kept) <= MAX_CHARS + 100
    assert "more lines are not shown" in kept[-1] and kept[:-1] == some[: len(kept) - 1]
    assert bounded(some[:10]) == some[:10]
    [start, note] = bounded(["y" * (MAX_CHARS + 5)])
    assert start.endswith("…") and len(start) <= MAX_CHARS and "1 more line" in note
