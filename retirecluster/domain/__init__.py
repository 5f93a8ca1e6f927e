"""The rules, pure: bytes, events and `now` go in; values and effects come out.

====================  ==================================================================
fields                how outside data is described and checked; the tables are built of it
errors                every error, who must act, and its wire code, HTTP status, exit code
units                 durations and sizes as people write them
lifecycle             the states of a task and the one table of its transitions
tasks                 what a task is: its specification, its attempts
task_types            the built-in task types and what their payloads look like
schemas               JSON Schemas of plug-ins' payloads
devices               what a device is: profile, metrics, presence
requirements          does a device fit a task, and why not
placement             queues by requirement class, and which device is best for the next task
fencing               what is current and what is late: sessions, epochs, the ends of leases
audit                 who changed what, and what was refused to whom: what is written down of it
retry                 when a failed attempt is tried again
scheduler             the decisions: one method per event, a `Turn` of effects comes out
explain               why a task waits
====================  ==================================================================

Nothing here imports Twisted, a database, psutil or the clock.
"""
