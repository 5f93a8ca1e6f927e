"""Commands about devices."""

from __future__ import annotations

from retirecluster.domain.commands.cluster_table import REST_OPTIONS
from retirecluster.domain.commands.kinds import DEVICE, DEVICES, DURATION, ROLE
from retirecluster.domain.commands.model import OPERATOR, READ, SOME, Argument, Command, Group, Option

ONE_DEVICE = Argument("device", DEVICE, "device id or the start of one")
SOME_DEVICES = Argument("devices", DEVICES, "device ids, starts of them, `all`", SOME, "device")
YES = Option(("--yes", "-y"), doc="do not ask when `all` is meant")
DEADLINE = Option(
    ("--deadline",), DURATION, "after this long (90, 5m, 1h), move what still runs elsewhere", metavar="TIME"
)


def _act(name: str, summary: str, *options: Option, example: str = "") -> Command:
    examples = (example or f"devices {name} pixel-3",)
    return Command(("devices", name), summary, (SOME_DEVICES,), (*options, YES), role=OPERATOR, examples=examples)


GROUPS = (Group("devices", "look at devices and act on them", "list", ("device",)),)
COMMANDS = (
    Command(
        ("devices", "list"),
        "all devices",
        (),
        (Option(("--wide", "-w"), doc="more columns"),),
        aliases=("ls",),
        examples=("devices list --wide", "devices | grep online"),
    ),
    Command(("devices", "show"), "everything about one device", (ONE_DEVICE,), examples=("devices show pixel-3",)),
    _act(
        "drain",
        "give it no new tasks; let running ones end",
        DEADLINE,
        example="devices drain pixel-3 --deadline 5m",
    ),
    _act("undrain", "end a drain"),
    _act("cordon", "give it no new tasks until uncordon, also after a restart"),
    _act("uncordon", "give it tasks again"),
    _act("release", "believe it again: ends a quarantine or suspicion"),
    _act("ping", "ask whether it answers"),
    _act("wake", "wake it if it sleeps (Wake-on-LAN)"),
    Command(
        ("devices", "borrow"),
        "take a device for yourself for a while",
        (ONE_DEVICE, Argument("time", DURATION, "how long (30m, 3h)", metavar="TIME")),
        REST_OPTIONS,
        role=OPERATOR,
        examples=("devices borrow pixel-3 3h",),
    ),
    Command(
        ("devices", "give-back"),
        "end the borrowing of a device",
        (ONE_DEVICE,),
        role=OPERATOR,
        examples=("devices give-back pixel-3",),
    ),
    Command(
        ("devices", "stats"),
        "what a device reported lately",
        (ONE_DEVICE,),
        (
            Option(
                ("--window",), DURATION, "how far back: 30m, 2h (default), at most 90d", metavar="TIME", default=7200.0
            ),
        ),
        examples=("devices stats pixel-3 --window 1d",),
    ),
    Command(
        ("devices", "role"),
        "change the role of a device",
        (ONE_DEVICE, Argument("role", ROLE, "worker, compute, mobile, storage, nas, or one of your own")),
        role=OPERATOR,
        examples=("devices role pixel-3 storage",),
    ),
    Command(
        ("devices", "remove"),
        "forget a device",
        (Argument("device", DEVICE, "device id"),),
        (Option(("--yes", "-y"), doc="do not ask"),),
        aliases=("rm",),
        role=OPERATOR,
        examples=("devices remove pixel-3 --yes",),
    ),
    Command(("devices", "monitor"), "what happens to devices", role=READ),
)
