"""A line as words: quotes, backslashes and `|` as in a shell, and nothing else of one. Nothing is expanded.

word        'as it is'  "with \\" and \\\\ escaped"  and\\ this
tasks list | grep failed | head -5
"""

from __future__ import annotations

from attrs import define, field, frozen

from retirecluster.domain.errors import ClusterError

MAX_LINE = 16_384
MAX_STAGES = 8
_SHELL_WORDS = {
    ">": "there is no redirection here; copy the output, or use retire-cluster in a shell",
    ">>": "there is no redirection here; copy the output, or use retire-cluster in a shell",
    "<": "there is no redirection here; copy the output, or use retire-cluster in a shell",
    ";": "one command a line",
    "&": "one command a line, and none in the background",
    "&&": "one command a line",
}


@frozen
class Word:
    """One word and where it stands: `start` to `end` in the line, quotes included.

    `bare` says that its first character is not quoted, so that it may be an option.
    """

    text: str
    start: int
    end: int
    bare: bool = True


@frozen
class Scan:
    """The words of each stage between `|`. `quote` is the quote that was not closed, or empty."""

    stages: tuple[tuple[Word, ...], ...]
    quote: str = ""


@define
class _Scanner:
    line: str
    at: int = 0
    stages: list[list[Word]] = field(factory=lambda: [[]])
    quote: str = ""

    def scan(self) -> Scan:
        while self.at < len(self.line):
            char = self.line[self.at]
            if char in " \t":
                self.at += 1
            elif char == "|":
                self.stages.append([])
                self.at += 1
            else:
                self._word()
        return Scan(tuple(map(tuple, self.stages)), self.quote)

    def _word(self) -> None:
        start, parts = self.at, list[str]()
        while self.at < len(self.line) and self.line[self.at] not in " \t|":
            char = self.line[self.at]
            self.at += 1
            if char in "'\"":
                parts.append(self._quoted(char))
            elif char == "\\":
                parts.append(self.line[self.at : self.at + 1] or "\\")
                self.at += 1
            else:
                parts.append(char)
        self.at = min(self.at, len(self.line))
        bare = self.line[start] not in "'\"\\"
        self.stages[-1].append(Word("".join(parts), start, self.at, bare))

    def _quoted(self, quote: str) -> str:
        parts: list[str] = []
        while self.at < len(self.line):
            char = self.line[self.at]
            self.at += 1
            if char == quote:
                return "".join(parts)
            if char == "\\" and quote == '"' and self.line[self.at : self.at + 1] in ('"', "\\"):
                char = self.line[self.at]
                self.at += 1
            parts.append(char)
        self.quote = quote
        return "".join(parts)


def scan(line: str) -> Scan:
    """The words of a line that may be unfinished."""
    return _Scanner(line).scan()


def split(line: str) -> tuple[tuple[Word, ...], ...]:
    """The words of each stage of a finished line. Raises ClusterError for what is not one."""
    if len(line) > MAX_LINE:
        raise _wrong(f"the line has {len(line)} characters; at most {MAX_LINE} are read")
    unprintable = next((char for char in line if not char.isprintable() and char != "\t"), None)
    if unprintable is not None:
        what = "is more than one line; send them one by one" if unprintable in "\r\n" else f"has {unprintable!a}"
        raise _wrong(f"the line {what}")
    found = scan(line)
    if found.quote:
        raise _wrong(f"a quote {found.quote} is not closed; close it, or write \\{found.quote} for the character")
    if len(found.stages) > MAX_STAGES:
        raise _wrong(f"there are {len(found.stages) - 1} filters; at most {MAX_STAGES - 1} can follow each other")
    for number, stage in enumerate(found.stages):
        if not stage and len(found.stages) > 1:
            raise _wrong("nothing stands before |" if not number else "a filter is missing after |, as: | grep failed")
        for word in stage:
            if word.text in _SHELL_WORDS and word.end - word.start == len(word.text):
                raise _wrong(f"{word.text} is not understood: {_SHELL_WORDS[word.text]} (or quote it)")
    return found.stages


def quoted(text: str) -> str:
    """The text as one word of a line."""
    if text and all(char.isalnum() or char in "_-./:@%+=,~^" for char in text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def _wrong(message: str) -> ClusterError:
    return ClusterError("bad_field", message, field="line")
