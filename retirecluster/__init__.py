"""retirecluster: make the devices in your drawer work together.

The rooms, and who may know whom (imports point this way only)::

    domain  <-  wire   <-  main, worker        domain: the rules, pure
    domain  <-  store  <-  main  <-  web       wire: messages on the line; store: what survives
    domain  <-  client                         client: talks HTTP, knows no room of the daemons
    platforms  <-  worker                      platforms: what differs by operating system

This module imports nothing, so that the task runner stays small.
"""

__version__ = "0.1.0"
