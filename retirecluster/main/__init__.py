"""The main node.

==========  =====================================================================================
service     `twistd retire-main`: options, and the wiring of everything below
server      the port for workers: messages routed to the rooms below, effects of turns sent
peer        one connection
registry    who is connected: sessions, registration, duplicates, farewells
scheduler   the domain's scheduler with a disk under it: submit, results, cancel
heartbeat   signs of life, silence, leases
turns       one transaction a turn; nothing is sent before it is on disk
outputs     what running tasks print, for those who watch
events      the event log as it grows, for those who watch
views       documents of devices and of the cluster
task_types  which task types there are, by what devices offer
requests    the original's client requests over TCP
household   signals from outside, quiet, borrowed devices
histories   what devices reported, kept over restarts
cluster     every use case in one place, for the doors (web, TCP clients)
file_store  contents of tasks' files on the disk: taken in piece by piece, kept once, read back
task_files  which files tasks bring and leave, and who may read and write them
device_tokens  the devices' tokens for the web port, one a session
tokens      the admin token
==========  =====================================================================================
"""
