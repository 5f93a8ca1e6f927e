"""What may stand after `|`: ours, never a shell's. The same shape as a command, for one parser, help and completion."""

from __future__ import annotations

from retirecluster.domain.commands.kinds import INTEGER, TEXT
from retirecluster.domain.commands.model import SERVED, Argument, Command, Option

_LINES = Option(("-n",), INTEGER, "how many lines (10)", name="count", metavar="N", default=10)

FILTERS = (
    Command(
        ("grep",),
        "lines with a text in them",
        (Argument("text", TEXT, "the text, as it is; with -E a regular expression"),),
        (
            Option(("-E",), doc="it is a regular expression: . [a-z] \\d \\w \\s * + ? | ( ) ^ $", name="pattern"),
            Option(("-i",), doc="small and capital letters are the same", name="ignore_case"),
            Option(("-v",), doc="lines without it", name="invert"),
            Option(("-c",), doc="only how many lines", name="count"),
            Option(("-n",), doc="with the number of each line", name="number"),
        ),
        doors=SERVED,
        examples=("devices list | grep online", "tasks list | grep -E 'failed|lost'"),
    ),
    Command(("head",), "the first lines", (), (_LINES,), doors=SERVED, examples=("tasks list | head -5",)),
    Command(("tail",), "the last lines", (), (_LINES,), doors=SERVED, examples=("events | tail -n 20",)),
    Command(
        ("sort",),
        "lines in order",
        (),
        (
            Option(("-n",), doc="by the number that it begins with", name="numeric"),
            Option(("-r",), doc="the other way round", name="reverse"),
            Option(("-u",), doc="each line once", name="unique"),
            Option(("-k",), INTEGER, "by this word of the line, counted from 1", name="key", metavar="N"),
        ),
        doors=SERVED,
        examples=("devices list | sort -k 4 -n -r",),
    ),
    Command(
        ("wc",),
        "how many lines, words and characters",
        (),
        (
            Option(("-l",), doc="lines alone", name="lines"),
            Option(("-w",), doc="words alone", name="words"),
            Option(("-c",), doc="characters alone", name="characters"),
        ),
        doors=SERVED,
        examples=("tasks list | grep failed | wc -l",),
    ),
    Command(
        ("cut",),
        "some columns of each line",
        (),
        (
            Option(("-f",), TEXT, "fields, as 1, 1,3 or 2-4", name="fields", metavar="LIST", either="what"),
            Option(("-c",), TEXT, "characters, as 1-20", name="characters", metavar="LIST", either="what"),
            Option(("-d",), TEXT, "what stands between fields (blanks)", name="delimiter", metavar="CHAR"),
        ),
        doors=SERVED,
        examples=("devices list | cut -f 1,2", "devices list -o csv | cut -d , -f 1"),
    ),
)
