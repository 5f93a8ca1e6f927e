"""Commands about who may join by TLS."""

from __future__ import annotations

from retirecluster.domain.commands.kinds import DEVICE, DURATION, ROLE, TEXT
from retirecluster.domain.commands.model import ADMIN, Argument, Command, Group, Option

_WHOLE_ID = Argument("device", DEVICE, "the whole device id")

GROUPS = (Group("ca", "the authority that the cluster's certificates come from", "show"),)
DEVICE_COMMANDS = (
    Command(
        ("devices", "approve"),
        "let a device in that has joined and waits for it",
        (_WHOLE_ID,),
        role=ADMIN,
        examples=("devices approve pixel-3",),
    ),
    Command(
        ("devices", "revoke"),
        "let a device in no more: its key is void, its session ends at once",
        (_WHOLE_ID,),
        role=ADMIN,
        examples=("devices revoke pixel-3",),
    ),
)
COMMANDS = (
    Command(
        ("join-token",),
        "a join string: lets one device into the cluster, once",
        (),
        (
            Option(("--role",), ROLE, "the role that the device gets"),
            Option(("--name",), TEXT, "the device id that it gets", metavar="ID"),
            Option(("--ttl",), DURATION, "how long it is good for (15m), at most 7d", metavar="TIME", default=900.0),
        ),
        role=ADMIN,
        details="Make a join string. It says where the main is and how to know it, and holds a secret that lets one "
        "device in, once. On the device: retire-cluster join STRING",
        examples=("join-token --role mobile --ttl 15m",),
    ),
    Command(("ca", "show"), "the authority's hash, and the certificates of devices", role=ADMIN),
    Command(("ca", "renew"), "a new key and certificate for the main; devices notice nothing", role=ADMIN),
)
