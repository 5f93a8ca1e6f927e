"""The task runner: a small program that turns jobs into processes and tells the worker how they do.

The worker starts one and talks to it in JSON lines. It stays small (the standard library alone, and little of
it), so that a forked child is cheap, and it is a process of its own, so that nothing a task does reaches the
worker's connection.

==============  ==============================================================================
loop            the event loop: the channel to the worker, timers, the attempts that run
attempt         one running task as the runner sees it: pipes, deadline, what it said
output          bytes to numbered, decoded chunks and a bounded tail: pure
processes       reaping, killing, orphans
scratch         the private folder of each attempt
child           the first steps of a forked child: what it may reach, and its limits
behaviours      the built-in task types, run in the child
http_request    the one that needs the network
limits          every cap, in one place
==============  ==============================================================================

Channel, worker to runner: `{"do": "run", "n": 1, "type": ..., "payload": ..., "timeout": s, "env": {...}}` and
`{"do": "cancel", "n": 1, "grace": s}`. Runner to worker, `e` first: `ready`, `started`, `output`, `progress`, `end`.
When the channel closes, every task is killed and the runner leaves.
"""
