"""`retirecluster.task` outside a task, and where its descriptor is not what it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = str(Path(__file__).parents[1])


def run(source: str, folder: Path, environ: dict[str, str], **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", "from retirecluster import task\n" + source],
        env={"PYTHONPATH": REPOSITORY, **environ},
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=30,
        **more,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_outside_a_task_nothing_happens(tmp_path: Path) -> None:
    source = (
        "import os\ntask.progress(1, 2, 'half')\n"
        "assert (task.task_id(), task.epoch(), task.device_id()) == ('', 0, '')\n"
        "assert (task.checkpoint(), task.inputs()) == (None, [])\n"
        "assert task.scratch() == os.getcwd()\n"
    )
    done = run(source, tmp_path, {})
    assert (done.stdout, done.stderr, list(tmp_path.iterdir())) == ("", "", [])


def test_it_imports_little() -> None:
    source = "import sys; print(len([n for n in sys.modules if 'twisted' in n or 'attr' in n]))"
    assert run(source, Path("/"), {}).stdout == "0\n"


def test_progress_goes_to_the_pipe_and_never_to_what_has_its_number(tmp_path: Path) -> None:
    readable, writable = os.pipe()
    inside = {
        "RETIRE_TASK_ID": "task-1",
        "RETIRE_PROGRESS_FD": str(writable),
        "RETIRE_PROGRESS_PIPE": str(os.fstat(writable).st_ino),
        "RETIRE_PROGRESS_FILE": str(tmp_path / "progress"),
    }
    run("task.progress(1, 4, 'ü')\ntask.progress(250)\ntask.progress(3, 0)", tmp_path, inside, pass_fds=[writable])
    lines = [json.loads(line) for line in os.read(readable, 4096).splitlines()]
    assert lines == [{"percent": percent, "message": text} for percent, text in ((25.0, "ü"), (100.0, ""), (100.0, ""))]
    assert not (tmp_path / "progress").exists()
    # A file of the program's own stands where the pipe was.
    take = f"import os\nfd = os.open('mine', os.O_RDWR | os.O_CREAT)\nos.dup2(fd, {writable})\n"
    run(take + "task.progress(60)", tmp_path, inside)
    assert (tmp_path / "mine").read_bytes() == b""
    assert json.loads((tmp_path / "progress").read_text()) == {"percent": 60, "message": ""}
    os.close(readable)
    run("task.progress(1)", tmp_path, inside, pass_fds=[writable])  # nobody listens: no reason to fail
    os.close(writable)
