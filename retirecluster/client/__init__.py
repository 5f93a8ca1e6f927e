"""The client: what a person or a program uses to talk to a cluster. It knows the domain and the HTTP API alone.

====================  ==================================================================
api                   `ClusterApi`: the HTTP API as async methods
exchange, problems    one request and its answer; what went wrong, in words
streams, sse          server-sent events as an async iterator that reconnects; the parser under it
calls                 Python functions as tasks
batches               many tasks as request bodies that the main accepts
tracking, following   many tasks until all have ended; one task with its output as it comes
settings              which server, which token, found where
cli, parsing          the `retire-cluster` command, what happens with errors; its argument parser
commands_*            the commands, by group
context, running      what a command is given; the reactor under it, signals, exit codes
task_options          the options of `submit`, built from the task document's field tables
selection, confirm    from `last`, `all` and prefixes to task ids; asking before what is hard to undo
console, live         what may be written where: colours, width, lines redrawn in place
tables, columns       tables that fit, and what stands in them
formats, documents    one answer as table, JSON, CSV or TSV; one document as `name  value` lines
watching              `--watch`
output_text           task output made safe for a terminal
local, processes      a cluster of real processes on this machine
up                    `retire-cluster up`
demo, demo_*          `retire-cluster demo`: input, progress, work, report
word_index            the script that the demo's tasks run
====================  ==================================================================

`cli` and the command modules import neither Twisted nor treq until a command needs them, so that `--help` is
there at once.
"""
