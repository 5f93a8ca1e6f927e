"""What the command lines of both daemons have in common: a mistake is one line on stderr, and exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.python import usage

from retirecluster.domain.fields import nearest


class DaemonOptions(usage.Options):
    """Options of a twistd command named `command`; values are checked with all other layers by `config`."""

    command = ""

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            self._refuse(str(error))

    def parseArgs(self, *rest: str) -> None:
        if rest:
            self._refuse(f"{rest[0]!r} is not an option")

    def _refuse(self, message: str) -> None:
        names = [*self.longOpt]
        word = next((word for word in message.split() if word.startswith("-")), "")
        near = nearest(word.lstrip("-"), [name.rstrip("=") for name in names]) if word else None
        hint = f"did you mean --{near}?" if near else f"see twistd {self.command} --help"
        sys.stderr.write(f"{self.command}: command line: {message}; {hint}\n")
        sys.exit(2)
