"""Regular expressions whose cost is bounded, for `grep -E` on the main.

Strangers' patterns must not keep the main busy, and those of Python's `re` can for hours. Here a pattern becomes a
nondeterministic automaton (Thompson's), which becomes a deterministic one state by state as text asks for them: each
character is looked at once. What making new states may cost in all is bounded as well.

Understood are `.` `[a-z]` `[^a-z]` `\\d` `\\w` `\\s` (large ones for the opposite), `*` `+` `?`, `|`, `( )`, `^`, `$`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define, field, frozen

from retirecluster.domain.errors import ClusterError

MAX_PATTERN = 200
MAX_NESTING = 20
MAX_WORK = 60_000
"""Nodes visited while states are made, by all patterns of one line together: a tenth of a second, or two."""
Test = Callable[[str], bool]
_CLASSES: dict[str, Test] = {
    "d": str.isdecimal,
    "w": lambda char: char.isalnum() or char == "_",
    "s": str.isspace,
    "D": lambda char: not char.isdecimal(),
    "W": lambda char: not (char.isalnum() or char == "_"),
    "S": lambda char: not char.isspace(),
}
_CONTROL = {"t": "\t"}
_SPECIAL = ".[]()*+?|^$\\{}"


@frozen
class _Chars:
    """The characters that a node takes."""

    tests: tuple[Test, ...] = ()
    ranges: tuple[tuple[str, str], ...] = ()
    negated: bool = False
    fold: bool = False

    def takes(self, char: str) -> bool:
        return self._takes(char) if not self.fold else self._has_any({char, char.lower(), char.upper()})

    def _has_any(self, chars: set[str]) -> bool:
        found = any(self._in(char) for char in chars)
        return found != self.negated

    def _takes(self, char: str) -> bool:
        return self._in(char) != self.negated

    def _in(self, char: str) -> bool:
        return any(low <= char <= high for low, high in self.ranges) or any(test(char) for test in self.tests)


@define(eq=False)
class _Node:
    """`chars` None and `mark` empty: it leads on for nothing. `mark`: begin, end or match."""

    chars: _Chars | None = None
    mark: str = ""
    out: list[_Node] = field(factory=list)


@frozen
class _Part:
    """A part of the automaton: where it begins, and its last node, which leads nowhere yet."""

    first: _Node
    last: _Node


@define
class _Parser:
    text: str
    fold: bool
    at: int = 0
    depth: int = 0

    def parse(self) -> _Part:
        found = self._choice()
        if self.at < len(self.text):
            raise wrong_pattern(f"the {self.text[self.at]} at {self.at + 1} closes nothing")
        return found

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _choice(self) -> _Part:
        first, last = _Node(), _Node()
        while True:
            part = self._sequence()
            first.out.append(part.first)
            part.last.out.append(last)
            if self._next() != "|":
                return _Part(first, last)
            self.at += 1

    def _sequence(self) -> _Part:
        first = last = _Node()
        while self._next() and self._next() not in "|)":
            part = self._repeated()
            last.out.append(part.first)
            last = part.last
        return _Part(first, last)

    def _repeated(self) -> _Part:
        part = self._atom()
        while self._next() and self._next() in "*+?":
            sign = self._next()
            self.at += 1
            first, last = _Node(), _Node()
            first.out.append(part.first)
            if sign in "*?":
                first.out.append(last)
            part.last.out.append(last)
            if sign in "*+":
                part.last.out.append(part.first)
            part = _Part(first, last)
        if self._next() == "{":
            raise wrong_pattern("counts in { } are not understood; write \\{ for the character")
        return part

    def _atom(self) -> _Part:
        char = self._next()
        self.at += 1
        if char == "(":
            return self._group()
        if char == "[":
            return self._one(self._set())
        if char in "^$":
            node = _Node(mark="begin" if char == "^" else "end")
            return _Part(node, node)
        if char == ".":
            return self._one(_Chars(negated=True))
        if char in "*+?":
            raise wrong_pattern(f"there is nothing before the {char} that could be repeated; write \\{char}")
        if char == "\\":
            return self._one(self._escape())
        return self._one(_Chars(ranges=((char, char),), fold=self.fold))

    def _one(self, chars: _Chars) -> _Part:
        node, last = _Node(chars), _Node()
        node.out.append(last)
        return _Part(node, last)

    def _group(self) -> _Part:
        if self.text.startswith("?:", self.at):
            self.at += 2
        elif self._next() == "?":
            raise wrong_pattern("(? is not understood; groups are ( )")
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise wrong_pattern(f"groups are nested deeper than {MAX_NESTING}")
        found = self._choice()
        self.depth -= 1
        if self._next() != ")":
            raise wrong_pattern("a ( is not closed; write \\( for the character")
        self.at += 1
        return found

    def _escape(self) -> _Chars:
        char = self._next()
        self.at += 1
        if char in _CLASSES and char:
            return _Chars((_CLASSES[char],))
        if char and (not char.isalnum() or char in _CONTROL):
            char = _CONTROL.get(char, char)
            return _Chars(ranges=((char, char),), fold=self.fold)
        raise wrong_pattern(f"\\{char} is not understood; there are \\d \\w \\s \\t, and \\ before {_SPECIAL}")

    def _set(self) -> _Chars:
        negated = self._next() == "^"
        self.at += negated
        tests, ranges, began = list[Test](), list[tuple[str, str]](), self.at
        while self._next() != "]" or self.at == began:
            low = self._set_item(tests)
            if low is None:
                continue
            high = low
            if self._next() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self._set_item(tests) or ""
                if high < low:
                    raise wrong_pattern(f"{low}-{high} is not a range of characters")
            ranges.append((low, high))
        self.at += 1
        return _Chars(tuple(tests), tuple(ranges), negated, self.fold)

    def _set_item(self, tests: list[Test]) -> str | None:
        """A character of a set; None where it was a class, which goes to `tests`."""
        char = self._next()
        self.at += 1
        if not char:
            raise wrong_pattern("a [ is not closed; write \\[ for the character")
        if char != "\\":
            return char
        char = self._next()
        self.at += 1
        if char in _CLASSES and char:
            tests.append(_CLASSES[char])
            return None
        return _CONTROL.get(char, char)


_State = frozenset[_Node]


@define
class Budget:
    """What patterns may still cost. One for each line of a command, however many filters it has."""

    left: int = MAX_WORK

    def take(self, nodes: int) -> None:
        """Pay for nodes that were visited. Raises ClusterError where nothing is left."""
        self.left -= nodes
        if self.left < 0:
            raise wrong_pattern("it takes too long on this output; make it simpler, or leave out -E")


@define(eq=False)
class Pattern:
    """A pattern that can be looked for in line after line. Raises ClusterError where that takes too much work."""

    _start: _Node
    _budget: Budget
    _begun: _State = frozenset()
    _states: dict[_State, _State] = field(factory=dict)
    _found: dict[_State, bool] = field(factory=dict)
    _found_at_end: dict[tuple[_State, bool], bool] = field(factory=dict)
    _steps: dict[_State, dict[str, _State]] = field(factory=dict)

    def is_in(self, line: str) -> bool:
        """Whether it matches somewhere in the line."""
        state = self._begun
        if not state:
            state = self._begun = self._closure([self._start], at_begin=True)
        for char in line:
            if self._found[state]:
                return True
            following = self._steps[state].get(char)
            state = self._step(state, char) if following is None else following
        return self._found[state] or self._ends_in(state, not line)

    def _step(self, state: _State, char: str) -> _State:
        self._budget.take(len(state))
        taken = [node.out[0] for node in state if node.chars is not None and node.chars.takes(char)]
        following = self._closure([*taken, self._start])
        self._steps[state][char] = following
        return following

    def _ends_in(self, state: _State, empty: bool) -> bool:
        found = self._found_at_end.get((state, empty))
        if found is None:
            at_end = self._reached([out for node in state if node.mark == "end" for out in node.out], empty, True)
            found = self._found_at_end[state, empty] = any(node.mark == "match" for node in at_end)
        return found

    def _closure(self, nodes: Iterable[_Node], at_begin: bool = False) -> _State:
        kept = frozenset(node for node in self._reached(nodes, at_begin, False) if node.chars is not None or node.mark)
        known = self._states.get(kept)
        if known is not None:
            return known  # the same object: comparing it with itself costs nothing
        self._states[kept] = kept
        self._steps[kept] = {}
        self._found[kept] = any(node.mark == "match" for node in kept)
        return kept

    def _reached(self, nodes: Iterable[_Node], at_begin: bool, at_end: bool) -> set[_Node]:
        """All that can be reached from the nodes without a character."""
        waiting, seen = list(nodes), set[_Node]()
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            passes = not node.mark or (node.mark == "begin" and at_begin) or (node.mark == "end" and at_end)
            if node.chars is None and passes:
                waiting += node.out
        self._budget.take(len(seen))
        return seen


def pattern(text: str, ignore_case: bool = False, budget: Budget | None = None) -> Pattern:
    """The pattern in a text; it pays from `budget`, or has one of its own.

    Raises ClusterError (bad_field) saying what is not understood.
    """
    if len(text) > MAX_PATTERN:
        raise wrong_pattern(f"it has {len(text)} characters; at most {MAX_PATTERN} are read")
    part = _Parser(text, ignore_case).parse()
    part.last.out.append(_Node(mark="match"))
    return Pattern(part.first, budget or Budget())


def wrong_pattern(message: str) -> ClusterError:
    """The error for a pattern that cannot be used."""
    return ClusterError("bad_field", f"the pattern of grep -E: {message}", field="line")
