"""The scheduler: every decision about tasks and devices, pure.

One method per event (`submit`, `result`, `disconnected`, `tick`, ...). A method changes the picture in memory
and fills the current `Turn`; `take_turn` places what can be placed and hands the turn over: what to write to
disk in one transaction, and which effects may leave the house once that is done.

===========  ======================================================================
picture      `Task`, `Attempt`, `Device`: what is known, in memory
turn         `Turn`, the events of the log, the effects
ledger       the one writer of task states: steps by the table, counts, event log
placement    queues by requirement class; which task goes to which device next
tasks        events about tasks: submit, cancel, hold, deadlines, retries
attempts     events from devices about attempts: started, refused, result, leases
fleet        the devices' own books
pauses       devices that owners or people want left alone
probes       suspect devices, and the task that clears them
timers       times at which something has to be looked at again
core         `Scheduler`: the whole, wired together
===========  ======================================================================
"""

from retirecluster.domain.scheduler.core import Scheduler, Settings
from retirecluster.domain.scheduler.picture import Attempt, Device, Moment, Task
from retirecluster.domain.scheduler.turn import Assign, Event, Stop, Turn

__all__ = ["Assign", "Attempt", "Device", "Event", "Moment", "Scheduler", "Settings", "Stop", "Task", "Turn"]
