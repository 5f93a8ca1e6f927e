"""What a command gets to work with: the reactor, the console, the environment."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

from attrs import frozen

from retirecluster.client.console import Console
from retirecluster.client.settings import Connection, Given, find_connection

if TYPE_CHECKING:
    from retirecluster.client.api import ClusterApi

Command = Callable[["Context", Namespace], Coroutine[Any, Any, int]]
"""A command that talks to the cluster; gives the exit code."""
ApiCommand = Callable[["Context", Namespace, "ClusterApi"], Awaitable[int]]
Handlers = dict[str, Command]
"""What is run for commands of the table, by their names."""
LocalHandlers = dict[str, Callable[[Console, Namespace], int]]
"""The same for commands that need no reactor."""


@frozen
class Context:
    """One run of the command line. `reactor` is the Twisted reactor that the command runs under."""

    reactor: Any
    console: Console
    environ: Mapping[str, str]

    def connection(self, args: Namespace) -> Connection:
        """The server and token that the options, the environment and the data folder name."""
        return find_connection(
            Given(args.server, args.token, args.token_file, args.data_dir, args.profile), self.environ
        )

    def open_api(self, args: Namespace) -> ClusterApi:
        """A client of that server; whoever opens it closes it."""
        # Here and not above: treq takes longer to import than `--help` should take to appear.
        from retirecluster.client.api import ClusterApi

        found = self.connection(args)
        return ClusterApi(found.server, found.token, reactor=self.reactor, ca=found.ca)


def with_api(command: ApiCommand) -> Command:
    """A command that is given an open client, closed after it."""

    async def run(context: Context, args: Namespace) -> int:
        api = context.open_api(args)
        try:
            return await command(context, args, api)
        finally:
            await api.close()

    return run
