"""The demo and `up` as people run them: real processes, real work, nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import retirecluster
from retirecluster.client.demo_input import Input
from retirecluster.client.demo_report import Measured, report
from retirecluster.client.demo_work import Outcome, merge
from retirecluster.client.local import WorkerProfile
from retirecluster.client.word_index import index_texts
from tests.client.test_process import COMMAND

ROOT = Path(retirecluster.__file__).parents[1]
PROFILES = [WorkerProfile("phone", "mobile"), WorkerProfile("pi", "nas")]
MEASURED = Measured(0.1, 1.0, 0.1, 0.5)


def outcome(device_id: str, texts: list[dict[str, Any]], **task: Any) -> Outcome:
    document = {"task_id": f"task-{device_id}", "status": "completed", "attempts": [{"device_id": device_id}]}
    return Outcome(document | task, {"execution_time": 1.0}, index_texts(texts))


def told(outcomes: list[Outcome], demands: list[dict[str, Any]], alone: Any, capsys: Any) -> tuple[int, str, str]:
    from retirecluster.client.console import Console

    code = report(Console(sys.stdout, sys.stderr), Input(Path("x")), PROFILES, demands, outcomes, alone, MEASURED)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_equal_results_are_a_success_and_everything_else_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = ([{"name": name, "piece": 0, "text": f"{name} hello"}] for name in ("a", "b"))
    alone = merge([index_texts(first), index_texts(second)])
    good = [outcome("phone", first), outcome("pi", second)]
    code, out, err = told(good, [{"role": "mobile"}, {}], alone, capsys)
    assert (code, err) == (0, "") and "The two indexes are equal." in out and "1 for role mobile" in out
    code, out, err = told(good, [{"role": "nas"}, {}], alone, capsys)
    assert code == 1 and "asked for role nas and ran on phone" in err and "equal" not in out
    code, out, err = told([good[0], outcome("pi", first)], [{}, {}], alone, capsys)
    assert code == 1 and "differs" in err
    code, out, err = told([good[0], outcome("pi", second, status="failed", reason="oh")], [{}, {}], alone, capsys)
    assert code == 1 and "task-pi failed: oh" in err
    cut = Outcome(good[1].task, {"truncated": True}, None)
    code, out, err = told([good[0], cut], [{}, {}], alone, capsys)
    assert code == 1 and "cut off" in err


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    (folder / "tmp").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RETIRE_CLUSTER_")}
    environ = kept | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, cwd=folder
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines of running processes that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in command and "retire-" in command:
            found.append(command)
    return found


@pytest.mark.integration
def test_the_demo_proves_itself_and_leaves_nothing(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(20):
        (texts / f"{number}.txt").write_text(f"word{chr(97 + number)} the and of\n" * 4000)
    process = start(tmp_path, "demo", "--input", str(texts), "--workers", "2")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert "The two indexes are equal." in out and "made up" in out and "old-laptop" in out
    cluster, alone = re.findall(r"digest, .*  ([0-9a-f]{64})", out)
    assert cluster == alone
    assert list((tmp_path / "tmp").iterdir()) == []
    assert processes_of(tmp_path) == []


@pytest.mark.integration
def test_up_restarts_a_worker_and_stops_all_at_ctrl_c(tmp_path: Path) -> None:
    process = start(
        tmp_path, "up", "--data-dir", str(tmp_path / "data"), "--workers", "1", "--port", "0", "--web-port", "0"
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        lines = iter(process.stdout.readline, "")
        assert any("Ctrl+C stops it all" in line for line in lines)
        [worker] = [each for each in Path("/proc").glob("[0-9]*") if _is_worker_of(each, tmp_path)]
        os.kill(int(worker.name), signal.SIGKILL)
        assert "ended with signal 9" in process.stderr.readline()
        assert "started again" in process.stderr.readline()
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert processes_of(tmp_path) == []


def _is_worker_of(process: Path, folder: Path) -> bool:
    try:
        command = (process / "cmdline").read_bytes()
    except OSError:
        return False
    return b"retire-worker" in command and str(folder).encode() in command
