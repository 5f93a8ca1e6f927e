"""Commands about which main the command line works with, and as whom."""

from __future__ import annotations

from retirecluster.domain.commands.kinds import PROFILE, TEXT
from retirecluster.domain.commands.model import MAYBE, SHELL, Argument, Command, Group, Option

GROUPS = (Group("profiles", "the mains that this user has signed in to", "list", ("profile",)),)
_NAME = Argument("name", PROFILE, "which", metavar="NAME")
COMMANDS = (
    Command(
        ("login",),
        "sign in to a main, and keep that as a profile",
        (Argument("target", TEXT, "the main's web port, or a login link; this machine's main", MAYBE, "SERVER|LINK"),),
        (Option(("--ca-hash",), TEXT, "hash of the main's authority, as `ca show` prints it", metavar="HASH"),),
        doors=SHELL,
        shows=False,
        details="Sign in with a login link (retire-cluster login-link on the main), or with a token, which is asked "
        "for where it is not given. Over https with a hash, or a link that has one, nothing secret is sent before the "
        "main has proved to be the right one. The profile is named after the host, unless --profile names it.",
        examples=("login nas:5000 --token-file token", "login https://nas:5000 --ca-hash HASH --profile home"),
    ),
    Command(("logout",), "forget a profile, and end the token that login made for it", doors=SHELL, shows=False),
    Command(("profiles", "list"), "every profile", aliases=("ls",), doors=SHELL, connects=False),
    Command(("profiles", "use"), "work with this one from now on", (_NAME,), doors=SHELL, shows=False, connects=False),
    Command(("profiles", "remove"), "forget one", (_NAME,), aliases=("rm",), doors=SHELL, shows=False, connects=False),
)
