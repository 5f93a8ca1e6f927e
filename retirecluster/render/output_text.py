"""Task output on its way to a terminal: colours, tabs and line ends pass, everything else a terminal obeys does not.

What a task prints is somebody else's text; moved cursors, changed titles or faked prompts must not come of it.
Pipes and files get the output as it is.
"""

from __future__ import annotations

import re

from attrs import define, field

_COLOUR_OR_CONTROL = re.compile(r"(\x1b\[[0-9;:]{0,40}m)|([\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069])")
_MAYBE_COLOUR = re.compile(r"\x1b(?:\[[0-9;:]{0,40})?\Z")


@define
class SafeOutput:
    """Cleans a stream of output that arrives in pieces, cut anywhere."""

    _held: str = field(default="", init=False)

    def feed(self, text: str) -> str:
        """The part of the output that may be shown now."""
        text = self._held + text
        unfinished = _MAYBE_COLOUR.search(text)
        self._held = unfinished.group() if unfinished else ""
        return _clean(text[: len(text) - len(self._held)])

    def flush(self) -> str:
        """What was held back for a sequence that never ended."""
        text, self._held = self._held, ""
        return _clean(text)


def _clean(text: str) -> str:
    return _COLOUR_OR_CONTROL.sub(lambda match: match[1] or _shown(match[2]), text.replace("\r\n", "\n"))


def _shown(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
