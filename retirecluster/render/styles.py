"""Which words are coloured on a terminal, and how."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = "default"
_NAMES = ("bold", "dim", "red", "green", "yellow", "blue", "cyan")
_CODES = {
    DEFAULT: ("1", "2", "31", "32", "33", "34", "36"),
    "matrix": ("1;38;5;46", "38;5;28", "1;7;38;5;46", "38;5;46", "38;5;154", "38;5;36", "38;5;48"),
    "amber": ("1;38;5;220", "38;5;136", "1;7;38;5;214", "38;5;220", "38;5;208", "38;5;172", "38;5;222"),
    "blue": ("1;38;5;153", "38;5;67", "1;38;5;210", "38;5;117", "38;5;186", "38;5;75", "38;5;123"),
    "contrast": ("1;97", "37", "1;91", "1;92", "1;93", "1;96", "1;96"),
    "none": ("", "", "", "", "", "", ""),
}
THEMES = {theme: dict(zip(_NAMES, codes, strict=True)) for theme, codes in _CODES.items()}
"""For each theme what a style is as SGR parameters. Styles are named by what they are in the default theme; in those of
one colour what is red stands out by being inverse."""
STYLES = THEMES[DEFAULT]
STATUS_STYLES = {
    "completed": "green",
    "online": "green",
    "ok": "green",
    "healthy": "green",
    "running": "cyan",
    "assigned": "cyan",
    "retrying": "yellow",
    "held": "yellow",
    "cancelling": "yellow",
    "draining": "yellow",
    "paused": "yellow",
    "cordoned": "yellow",
    "disconnected": "yellow",
    "asleep": "blue",
    "suspect": "yellow",
    "quarantined": "red",
    "failed": "red",
    "lost": "red",
    "expired": "red",
    "offline": "red",
    "cancelled": "dim",
    "queued": "",
    "blocked": "",
}


def styled(text: str, style: str, theme: str = DEFAULT) -> str:
    """The text in a style (`bold`, `dim`, a colour) of a theme; as it is for an empty one."""
    codes = THEMES[theme][style] if style else ""
    return f"\x1b[{codes}m{text}\x1b[0m" if codes else text


def status_styled(text: str, theme: str = DEFAULT) -> str:
    """A status word, perhaps padded, in the colour of what it says."""
    return styled(text, STATUS_STYLES.get(text.strip(), ""), theme)


def event_style(event: str, document: Mapping[str, object]) -> str:
    """The style of what happened, by the state that it led to, or else by a state in its name."""
    for word in (document.get("status"), document.get("to"), document.get("state"), *reversed(event.split("_"))):
        if isinstance(word, str) and STATUS_STYLES.get(word):
            return STATUS_STYLES[word]
    return ""
