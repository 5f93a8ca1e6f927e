"""Every cap of the runner, in one place. Sizes in bytes, durations in seconds."""

from __future__ import annotations

from errno import EAGAIN, EMFILE, ENFILE, ENOMEM

STDOUT_TAIL_BYTES = 96 * 1024
"""How much of the end of standard output is kept for the result."""
STDERR_TAIL_BYTES = 32 * 1024
"""The same for standard error. One byte is at most six in JSON, so both and an error message fit a 1 MiB line."""
VALUE_BYTES = 850_000
"""The longest JSON text of a value that is not a string; strings keep their last `STDOUT_TAIL_BYTES`."""
PICKLE_BYTES = 600_000
"""The longest pickle of a function's value: as base64 it is a third longer, and fits `VALUE_BYTES`."""
ERROR_CHARS = 4000
STREAM_BYTES = 8 * 1024 * 1024
"""How much one attempt may stream while it runs; after that only the tail is kept."""
CHUNK_BYTES = 16 * 1024
FLUSH_S = 0.05
"""Output waits this long for more, so that a task that prints letter by letter does not send letter by letter."""
READ_BYTES = 64 * 1024
TURN_BYTES = 1024 * 1024
"""What is read of one attempt within `TURN_S`; a task that prints for ever must not take the processor with it."""
TURN_S = 0.05
DRAIN_BYTES = 1024 * 1024 + READ_BYTES
"""What is read of a pipe after its task has ended: the largest that an ordinary user can make a pipe."""
SIDE_LINE_BYTES = 1024 * 1024
MESSAGE_CHARS = 1000
"""The longest message beside a percentage."""
PROGRESS_FILE = ".retire-progress"
"""In the task's folder, for programs that cannot keep a descriptor: its last line is looked at."""
PROGRESS_TAIL_BYTES = 4096
PROGRESS_S = 0.2
"""Progress is forwarded at most this often."""
CONGESTED_BYTES = 256 * 1024
"""With this much unsent, no more is read from tasks until the worker has caught up."""
GRACE_S = 2.0
"""Between SIGTERM and SIGKILL."""
OPEN_FILES = 1024
PROCESSES = 2048
"""Processes and threads of a task that does not say: more is a mistake, or malice."""
FILE_SIZE_BYTES = 1024**3
RUNNER_OPEN_FILES = 16_384
OOM_SCORE_ADJ = 500
"""Where memory runs out, the kernel takes a task before the worker."""
SCARCE = (EAGAIN, EMFILE, ENFILE, ENOMEM)
"""Errors that say that the device lacks something now, and not that the program is wrong."""
FIRST_SAMPLE_S = 0.25
"""Attempts that live longer are looked at through /proc; most do not."""
SAMPLE_S = 1.0
LIMITED_SAMPLE_S = 0.1
"""The same for attempts with a limit that nothing but looking enforces."""
WARM_MESSAGE_BYTES = 60_000
"""What goes over the socket of a warm process in one message."""
WARM_TASKS = 1000
"""After so many tasks a warm process is replaced, unless the job says another number."""
WARM_IDLE_S = 60.0
WARM_LEAVES_S = 2.0
"""What a warm process that is to leave may take for it."""
WARM_TOLD_S = 0.005
"""A warm task is told to have started once it has run so long; most are over before."""
