"""The client: what a person or a program uses to talk to a cluster. It knows the domain and the HTTP API alone.

====================  ==================================================================
api                   `ClusterApi`: the HTTP API as async methods
exchange, problems    one request and its answer; what went wrong, in words
streams, sse          server-sent events as an async iterator that reconnects; the parser under it
cluster, task         `Cluster` and `Task`: the Python client that blocks
async_cluster         `AsyncCluster`: the same for asyncio and for Twisted
executor              `ClusterExecutor`: the same as a `concurrent.futures.Executor`
options, task_errors  what may be said of a task; what is raised where one fails
desk, result_feed     what these share: patient submits, the ends of many tasks at once
link, background      from other threads and loops to a reactor of our own, one for each process
calls                 Python functions as tasks
batches               many tasks as request bodies that the main accepts
tracking, following   many tasks until all have ended; one task with its output as it comes
settings              which server, which token, found where
cli                   the `retire-cluster` command, and what happens with errors
parsing               an argument parser; `command_parser`: all of it, made of the table of commands
commands_*            what is done for the commands, by group
completing            what shells ask at each Tab
context, running      what a command is given; the reactor under it, signals, exit codes
task_options          the part of a task document that the options of `submit` give
selection, confirm    from `last`, `all` and prefixes to task ids; asking before what is hard to undo
console, live         what may be written where: colours, width, lines redrawn in place
formats               one answer on the console as table, JSON, CSV or TSV (`retirecluster.render` makes the text)
watching              `--watch`
local, processes      a cluster of real processes on this machine
probing               `retire-cluster health`, without a reactor
up                    `retire-cluster up`
demo, demo_*          `retire-cluster demo`: input, progress, work, report
word_index            the script that the demo's tasks run
====================  ==================================================================

`Cluster`, `AsyncCluster`, `ClusterExecutor`, `Task`, `TaskOptions` and what is raised can be imported from here; they
are loaded when they are first asked for. `cli` and the command modules import neither Twisted nor treq until a command
needs them, so that `--help` is there at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retirecluster.client.async_cluster import AsyncCluster, AsyncTask
    from retirecluster.client.cluster import Cluster
    from retirecluster.client.executor import ClusterExecutor, ClusterFuture
    from retirecluster.client.options import TaskOptions
    from retirecluster.client.task import Task
    from retirecluster.client.task_errors import TaskCancelled, TaskFailed, TaskTimedOut, WaitTimeout
    from retirecluster.domain.errors import ClusterError

_HOMES = {
    "AsyncCluster": "retirecluster.client.async_cluster",
    "AsyncTask": "retirecluster.client.async_cluster",
    "Cluster": "retirecluster.client.cluster",
    "ClusterError": "retirecluster.domain.errors",
    "ClusterExecutor": "retirecluster.client.executor",
    "ClusterFuture": "retirecluster.client.executor",
    "Task": "retirecluster.client.task",
    "TaskCancelled": "retirecluster.client.task_errors",
    "TaskFailed": "retirecluster.client.task_errors",
    "TaskOptions": "retirecluster.client.options",
    "TaskTimedOut": "retirecluster.client.task_errors",
    "WaitTimeout": "retirecluster.client.task_errors",
}
__all__ = [
    "AsyncCluster",
    "AsyncTask",
    "Cluster",
    "ClusterError",
    "ClusterExecutor",
    "ClusterFuture",
    "Task",
    "TaskCancelled",
    "TaskFailed",
    "TaskOptions",
    "TaskTimedOut",
    "WaitTimeout",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
