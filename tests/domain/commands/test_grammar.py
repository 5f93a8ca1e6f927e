"""Lines become commands with values, and the table holds together."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retirecluster.domain.commands import completion
from retirecluster.domain.commands import help as help_texts
from retirecluster.domain.commands.filter_table import FILTERS
from retirecluster.domain.commands.grammar import Filled, parse, top_names, with_general
from retirecluster.domain.commands.model import CLI, HTTP, ONE, SOME, TERMINAL, Argument, Command, Option
from retirecluster.domain.commands.table import COMMANDS, GROUPS
from retirecluster.domain.commands.words import quoted
from retirecluster.domain.errors import ClusterError

SERVED = [command for command in COMMANDS if HTTP in command.doors]
words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8).filter(lambda text: text != "--")


def filled(line: str) -> Filled:
    found = parse(line)
    assert found is not None
    return found.filled


def values(line: str) -> dict[str, Any]:
    return filled(line).values


# -- the table


def test_names_and_aliases_mean_one_thing_each() -> None:
    names = [
        " ".join((*command.path[:-1], each)) for command in COMMANDS for each in (command.path[-1], *command.aliases)
    ]
    names += [each for group in GROUPS for each in (group.name, *group.aliases)]
    assert len(names) == len(set(names))
    assert {command.path[0] for command in COMMANDS if len(command.path) == 2} == {group.name for group in GROUPS}
    for group in GROUPS:
        if group.default:
            assert (group.name, group.default) in [command.path for command in COMMANDS]


@pytest.mark.parametrize("command", [*COMMANDS, *FILTERS], ids=lambda each: each.name)
def test_each_command_is_whole(command: Command) -> None:
    whole = with_general(command, CLI) if command in COMMANDS else command
    flags = [flag for option in whole.options for flag in option.flags]
    keys = [each.key for each in whole.options] + [each.name for each in whole.arguments]
    assert len(flags) == len(set(flags)) and len(keys) == len(set(keys))
    assert command.summary and not command.summary.endswith(".")
    assert all(option.doc for option in command.options) and all(each.kind.doc for each in command.arguments)
    assert not [each for each in command.arguments[:-1] if each.count not in (ONE, SOME) and each.count != "maybe"]
    assert command.role != "admin" or HTTP in command.doors or CLI in command.doors
    for option in whole.options:
        if option.choices and option.default is not None:
            assert option.default in option.choices


@pytest.mark.parametrize("command", SERVED, ids=lambda each: each.name)
def test_examples_are_understood_and_mean_that_command(command: Command) -> None:
    for example in command.examples:
        found = parse(example)
        assert found is not None and found.filled.command.path == command.path, example


def test_what_stands_in_the_design_is_in_the_table_unless_it_waits_for_something() -> None:
    wanted = {
        "cluster": "status health metrics config quiet",
        "devices": "list show ping drain undrain cordon uncordon remove monitor stats role borrow give-back "
        "release wake",
        "tasks": "submit list show why logs wait cancel retry hold release monitor query metrics",
        "monitor": "devices tasks metrics events",
        "export": "devices tasks",
    }
    names = {command.name for command in SERVED}
    assert {f"{group} {each}" for group, some in wanted.items() for each in some.split()} <= names
    assert {"help", "clear", "exit", "history", "echo", "set", "theme"} <= set(top_names(TERMINAL))
    assert not {"clear", "exit", "history", "set", "theme"} & set(top_names(HTTP))


# -- lines


def test_values_by_place_and_by_name() -> None:
    assert values("devices drain a b --deadline 5m")["devices"] == ["a", "b"]
    assert values("devices drain --deadline=5m a")["deadline"] == 300.0
    assert values("devices borrow pi 3h --running=suspend")["running"] == "suspend"
    assert values("devices -wojson") == values("devices list --wide --format json")
    assert values("tasks submit --tag a --tag=b -- x")["task_tags"] == ["a", "b"]
    assert filled("submit -- ls -l -- x").rest == ("ls", "-l", "--", "x")
    assert filled("submit --").rest == () and filled("submit").rest is None
    assert values("signals set x -1.5")["value"] == -1.5
    assert values("devices show -- -odd")["device"] == "-odd"
    assert values("devices show '-odd'")["device"] == "-odd"
    assert values("devices --watch")["watch"] == 2.0 and values("tasks show --watch 5 last")["watch"] == 5.0
    assert values("tasks show --watch last")["task"] == "last"
    assert parse("") is None and parse("  ") is None


def test_filters_are_read_by_the_same_grammar() -> None:
    found = parse("devices | grep -iv 'a b' | head -3 | tail -n 2 | sort -k2 -nr | cut -d, -f1,3 | wc -l")
    assert found is not None
    assert [each.command.name for each in found.filters] == ["grep", "head", "tail", "sort", "cut", "wc"]
    grep, head, tail, sort, cut, _ = (each.values for each in found.filters)
    assert grep["ignore_case"] and grep["invert"] and grep["text"] == "a b"
    assert (head["count"], tail["count"], sort["key"], cut["delimiter"], cut["fields"]) == (3, 2, 2, ",", "1,3")
    assert sort["numeric"] and sort["reverse"]


def a_word(kind: Argument | Option) -> st.SearchStrategy[str]:
    if kind.choices:
        return st.sampled_from(kind.choices)
    by_name = {"time": st.sampled_from(["5m", "90", "1h30m"]), "n": st.integers(1, 99).map(str)}
    assert kind.kind is not None
    return by_name.get(kind.kind.name, st.just("team=kitchen") if kind.kind.name == "label" else words)


@given(st.data())
def test_every_command_with_any_options_comes_back(data: st.DataObject) -> None:
    command = with_general(data.draw(st.sampled_from(SERVED)), HTTP)
    line, wanted = [command.name], dict[str, Any]()
    chosen = data.draw(st.lists(st.sampled_from(command.options), unique=True, max_size=4)) if command.options else []
    for option in [each for each in chosen if each.alone is None]:
        flag = data.draw(st.sampled_from(option.flags))
        if option.is_flag:
            line.append(flag)
            wanted[option.key] = True
            continue
        word = data.draw(a_word(option))
        assert option.kind is not None
        wanted[option.key] = [option.kind.read(word)] if option.repeated else option.kind.read(word)
        if flag.startswith("--") and (word.startswith("-") or data.draw(st.booleans())):
            line.append(quoted(f"{flag}={word}") if word.startswith("-") else f"{flag}={quoted(word)}")
        else:
            line += [flag, quoted(word) if not word.startswith("-") else "'" + word.replace("'", "'\\''") + "'"]
    for argument in command.arguments:
        count = {ONE: 1, SOME: 2}.get(argument.count, 0)
        some = [data.draw(a_word(argument)) for _ in range(count)]
        line += ["'" + word.replace("'", "'\\''") + "'" for word in some]
        if count:
            read = [argument.kind.read(word) for word in some]
            wanted[argument.name] = read if argument.count == SOME else read[0]
    found = filled(" ".join(line))
    assert found.command.path == command.path
    assert {name: found.values[name] for name in wanted} == wanted


@given(st.text("abd -='\"\\|1", max_size=40), st.sampled_from([each.name for each in COMMANDS]))
def test_mistakes_are_of_the_caller_and_printable(tail: str, name: str) -> None:
    for door in (HTTP, TERMINAL):
        try:
            parse(f"{name} {tail}", door)
        except ClusterError as error:
            assert error.code == "bad_field" and error.message.isprintable()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("devices list -o json -o csv", "twice"),
        ("devices list --wide=1", "takes no value"),
        ("devices list -o", "needs a value: table, json, csv, tsv"),
        ("devices list -o --wide", "needs a value"),
        ("devices | cut -f 1 -c 2", "do not go together"),
        ("devices | head -n x", "whole number"),
        ("devices | nothing", "nothing else is run"),
        ("tasks list --limit 99999999999999999999", "whole number"),
        ("tasks list --label x", "NAME=VALUE"),
        ("signals set x inf", "not a number"),
        ("events --limit 0", "1 to 1000"),
        ("audit --limit 1001", "1 to 1000"),
    ],
)
def test_each_mistake_says_what_is_allowed(line: str, message: str) -> None:
    with pytest.raises(ClusterError) as caught:
        parse(line)
    assert message in caught.value.message


# -- help


@given(
    st.integers(1, 200),
    st.sampled_from([(), *[each.path for each in COMMANDS], *[(each.name,) for each in GROUPS], ("grep",)]),
)
def test_help_fits_and_says_something(width: int, path: tuple[str, ...]) -> None:
    lines = help_texts.help_lines(path, TERMINAL, width)
    assert all(len(line) <= max(width, help_texts.NARROWEST) or " " not in line.strip() for line in lines)
    assert len(lines) > 1


# -- completion


def offered(line: str, door: str = TERMINAL, **lookups: list[str]) -> list[str]:
    return [each.text for each in completion.complete(line, len(line), lookups, door).candidates]


def test_completion_of_names_options_and_values() -> None:
    assert "devices" in offered("") and "up" not in offered("") and "up" in offered("", CLI)
    assert offered("task") == ["tasks"] and offered("tasks que") == ["query"] and offered("task que") == ["query"]
    assert offered("devices list --f") == ["--format"] and offered("devices --w") == ["--wide", "--watch"]
    assert offered("devices list --format=") == [f"--format={each}" for each in ("table", "json", "csv", "tsv")]
    assert offered("devices list --format js") == ["json"] and offered("devices list -o json --f") == []
    assert offered("devices show ", devices=["a b", "pi"]) == ["'a b'", "pi"]
    assert offered("devices show pi ", devices=["pi"]) == []
    assert offered("devices drain pi ", devices=["pi", "x"]) == ["all", "pi", "x"]
    assert offered("cluster quiet o") == ["off"]
    assert offered("tasks | grep x | he") == ["head"] and "-n" in offered("tasks | head -")
    assert offered("help dev") == ["devices"] and "drain" in offered("help devices ")
    assert offered("--server x tasks li", CLI) == ["list"] and "--server" in offered("--s", CLI)
    assert "--server" in offered("tasks list --s", CLI) and "--server" not in offered("tasks list --s")
    assert offered("join au", CLI) == [] and offered("init ", CLI) == ["main", "worker"]


@given(st.text("adev ts-o='\"\\|1", max_size=30), st.integers(-3, 40), st.sampled_from([TERMINAL, CLI]))
def test_completion_takes_any_line_and_stays_at_the_cursor(line: str, cursor: int, door: str) -> None:
    found = completion.complete(line, cursor, {"devices": ["pi"], "tasks": ["task-1"]}, door)
    assert 0 <= found.start <= found.end == max(0, min(cursor, len(line)))


@given(st.sampled_from(SERVED), st.integers(0, 30))
def test_what_is_offered_for_a_name_leads_back_to_it(command: Command, cursor: int) -> None:
    line = command.name[:cursor]
    found = completion.complete(line, len(line), {})
    if line and not line.endswith(" ") and len(shlex.split(line)) == len(command.path):
        assert command.path[-1] in [each.text for each in found.candidates]
