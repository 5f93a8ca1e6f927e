"""A task in an interpreter of its own: `plain_child.py JOB SIDE [PATH...]`, where processes cannot be forked.

JOB is a file with the job, SIDE the file that takes the place of the side channel.
"""

from __future__ import annotations

import json
import os
import sys


def main(arguments: list[str]) -> int:
    sys.path.extend(path for path in arguments[2:] if path not in sys.path)
    from retirecluster.worker.runner.child import SIDE_FD, behave

    with open(arguments[0], encoding="utf-8") as file:
        job = json.load(file)
    side = os.open(arguments[1], os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
    if side != SIDE_FD:
        os.dup2(side, SIDE_FD, inheritable=False)
        os.close(side)
    return behave(job, os.getcwd())


if __name__ == "__main__":
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3)))
    code = 70
    try:
        code = main(sys.argv[1:])
    except BaseException as error:
        os.write(2, f"the task could not be started: {error!r}\n".encode("utf-8", "replace"))
    finally:
        os._exit(code)
