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
starting        how a job becomes a process: forked or spawned
fence           what the runner puts on itself and on each child, from isolation level 2 on
landlock        files and signals (with seccomp: system calls; system_calls: what Python has no function for)
proving         tries, behind the fence, what no task may do
cgroups         control groups of attempts, where their limits need one
watching        what attempts use, seen through /proc; limits that only looking enforces
child           the first steps of a forked child: what it may reach, and its limits
behaviours      the built-in task types, run in the child
python_call     functions by name, and as pickles
http_request    the one that needs the network (addresses: which targets are public)
side            what tasks say beside their output; progress_file: the same by a file
warm            processes that are used again: their lanes; warm_process and warm_task: one of each
warm_child      the other end, in the process; restoring: how it gives itself back clean
limits          every cap, in one place
==============  ==============================================================================

Channel, worker to runner: `{"do": "run", "n": 1, "type": ..., "payload": ..., "timeout": s, "env": {...}}` and
`{"do": "cancel", "n": 1, "grace": s}`. Runner to worker, `e` first: `ready`, `started`, `output`, `progress`, `end`.
A job with a `lane` goes to the warm process of that lane; `{"do": "recall", "lane": ...}` has those that have not begun
`returned`.
When the channel closes, every task is killed and the runner leaves.
"""
