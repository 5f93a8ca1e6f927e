"""Commands about the cluster as a whole: its state, its log, its files, its signals."""

from __future__ import annotations

from retirecluster.domain.access import ROLES
from retirecluster.domain.commands.kinds import COUNT, DURATION, DURATION_OR_OFF, FILE, NUMBER, SIGNAL, TEXT
from retirecluster.domain.commands.model import ADMIN, OPERATOR, SHELL, SOME, SUBMIT, Argument, Command, Group, Option
from retirecluster.domain.policy_fields import ON_PAUSE

REST_OPTIONS = (
    Option(
        ("--running",),
        TEXT,
        "running tasks go on (default), stand still, or move",
        choices=ON_PAUSE,
        default=ON_PAUSE[0],
    ),
    Option(("--reason",), TEXT, "a few words, shown with the devices", default=""),
)
FILE_FORMATS = ("csv", "tsv", "json")
_EXPORT = Option(("--format", "-o"), TEXT, "csv (default), tsv or json", choices=FILE_FORMATS, default="csv")

GROUPS = (
    Group("cluster", "the cluster as a whole", "status"),
    Group("files", "the files that the main holds", "list", ("file",)),
    Group("audit", "the trail of who changed what", "list"),
    Group("tokens", "access tokens, and what they may", "list", ("token",)),
    Group("signals", "figures from outside, for policies", "list", ("signal",)),
    Group("monitor", "what happens, as it happens"),
    Group("export", "everything, for other programs"),
)
COMMANDS = (
    Command(("cluster", "status"), "devices, tasks, load", examples=("cluster status", "cluster -o json")),
    Command(("cluster", "health"), "whether the main is well; exit code 1 if not"),
    Command(("cluster", "metrics"), "figures for graphs"),
    Command(("cluster", "config"), "the configuration that the main runs with"),
    Command(
        ("cluster", "quiet"),
        "give no device anything new for a while",
        (Argument("time", DURATION_OR_OFF, "how long (30m, 2h), or off", metavar="TIME"),),
        REST_OPTIONS,
        role=OPERATOR,
        examples=("cluster quiet 2h --running hand_back", "cluster quiet off"),
    ),
    Command(("files", "list"), "every file, by its content", aliases=("ls",), role=SUBMIT),
    Command(
        ("files", "remove"),
        "remove files that no kept task names",
        (Argument("digests", TEXT, "which; `files list` shows them", SOME, "SHA256"),),
        aliases=("rm",),
        role=OPERATOR,
    ),
    Command(("signals", "list"), "those that hold", aliases=("ls",)),
    Command(
        ("signals", "set"),
        "set one, as tariff 0.21",
        (
            Argument("name", SIGNAL, "small letters, digits and _ . -"),
            Argument("value", NUMBER, "a number"),
        ),
        (Option(("--ttl",), DURATION, "how long it holds (1h)", metavar="TIME", default=3600.0),),
        role=OPERATOR,
        examples=("signals set tariff 0.21 --ttl 1h",),
    ),
    Command(
        ("signals", "remove"), "remove one", (Argument("name", SIGNAL, "its name"),), aliases=("rm",), role=OPERATOR
    ),
    Command(
        ("events",),
        "the newest of what happened",
        (),
        (
            Option(("--subject",), TEXT, "only events about these", choices=("task", "device", "cluster")),
            Option(("--limit",), COUNT, "how many (50), at most 1000", metavar="N", default=50),
        ),
        examples=("events --subject device",),
    ),
    Command(
        ("audit", "list"),
        "who changed what, and what was refused, newest first",
        (),
        (
            Option(("--actor",), TEXT, "what this one did: admin, tcp client, device:ID, peer:ADDRESS", metavar="NAME"),
            Option(("--action",), TEXT, "only this: task.cancel, device.drain, result.refused, ...", metavar="NAME"),
            Option(("--limit",), COUNT, "how many (50), at most 1000", metavar="N", default=50),
        ),
        role=ADMIN,
        aliases=("ls",),
        examples=("audit --action device.drain",),
    ),
    Command(
        ("audit", "tail"),
        "the newest rows, the newest last",
        (),
        (Option(("--limit",), COUNT, "how many (10), at most 1000", metavar="N", default=10),),
        role=ADMIN,
        examples=("audit tail --limit 20",),
    ),
    Command(
        ("audit", "verify"),
        "whether the trail is as it was written; exit code 1 and the first bad row if not",
        (),
        (Option(("--file",), FILE, "a backup, or the data folder of a main here, which need not run", doors=SHELL),),
        role=ADMIN,
        details="Each row of the audit trail has a hash over itself and the hash of the row before. What this prints "
        "at the end, the number and hash of the last row, can be noted elsewhere: a trail that was written anew from "
        "some row on has another hash there.",
        examples=("audit verify",),
    ),
    Command(("tokens", "list"), "every token, but never its text", aliases=("ls",), role=ADMIN),
    Command(
        ("tokens", "create"),
        "make a token, which is shown this once",
        (Argument("name", TEXT, "whose it is, or what for", metavar="NAME"),),
        (
            Option(("--role",), TEXT, "what it may (submit)", choices=tuple(ROLES), default=SUBMIT),
            Option(("--ttl",), DURATION, "how long it is good for; else until it is revoked", metavar="TIME"),
        ),
        role=ADMIN,
        examples=("tokens create ci --role submit --ttl 720h",),
    ),
    Command(
        ("tokens", "revoke"),
        "end a token, its sessions and streams, at once",
        (Argument("revoked", TEXT, "its id or its name", metavar="TOKEN"),),
        aliases=("rm",),
        role=ADMIN,
        examples=("tokens revoke ci",),
    ),
    Command(("login-link",), "a link that signs one browser in, once", role=ADMIN),
    Command(("monitor", "devices"), "what happens to devices"),
    Command(("monitor", "tasks"), "what happens to tasks"),
    Command(("monitor", "events"), "the event log as it grows"),
    Command(("monitor", "metrics"), "figures, again every two seconds"),
    Command(("export", "devices"), "every device", (), (_EXPORT,), shows=False, examples=("export devices -o json",)),
    Command(("export", "tasks"), "every task that is kept, newest first", (), (_EXPORT,), shows=False),
)
