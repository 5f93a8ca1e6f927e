"""Which words are coloured on a terminal, and how."""

from __future__ import annotations

STYLES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}
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


def styled(text: str, style: str) -> str:
    """The text in a style (`bold`, `dim`, a colour); as it is for an empty one."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if style else text


def status_styled(text: str) -> str:
    """A status word, perhaps padded, in the colour of what it says."""
    return styled(text, STATUS_STYLES.get(text.strip(), ""))
