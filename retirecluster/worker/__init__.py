"""The worker: what runs on every device that joins a cluster.

================  ============================================================================
service           the composition root: options and the wiring of everything below
connection        the line to the main node: greeting, registration, heartbeats, reconnecting
agent             the worker's duties, connected or not: accept, refuse, report, drain
executor          queue and slots; owns the runner's process
runner_process    the other end of the runner's channel
runner/           the runner itself, a small program of its own
outcome           what the runner reports, as the result that goes to the main
journal           what survives a crash of the worker
data_folder       the folder that all of it lives in, and its lock
leftovers         processes of an earlier life, found and killed
profiler          what the device is and can do
monitor           how it is doing
speed             a small benchmark
================  ============================================================================

This module imports nothing, so that the runner stays small.
"""
