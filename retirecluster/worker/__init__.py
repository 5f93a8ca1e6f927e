"""The worker: what runs on every device that joins a cluster.

================  ============================================================================
entry             what twistd loads: the service, without pyOpenSSL
service           the composition root: options and the wiring of everything below
worker_service    the life of a worker: the order in which its parts start and end
announcement      what it says of itself when it registers
connection        the line to the main node: greeting, registration, heartbeats
backoff, beats    the pauses between connections; the heartbeats that are not answered yet
agent             the worker's duties, connected or not: accept, refuse, report, drain
spool             results on their way, kept until the main has them
executor          queue and slots; owns the runner's process
lanes             which warm process a task goes to
checkpoints       folders that the next attempt finds again
plugins           task types of installed packages
runner_process    the other end of the runner's channel
runner/           the runner itself, a small program of its own
outcome           what the runner reports, as the result that goes to the main
journal           what survives a crash of the worker
data_folder       the folder that all of it lives in, and its lock
leftovers         processes of an earlier life, found and killed
profiler          what the device is and can do
monitor           how it is doing
speed             a small benchmark
tools             programs and services that tasks ask for
policy            the owner's comfort policy: has the agent work or pause
cpu_share         keeps tasks to a part of the processors
low_disk          makes room when the disk is nearly full
================  ============================================================================

This module imports nothing, so that the runner stays small.
"""
