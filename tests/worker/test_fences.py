"""What a fenced task may not do, tried by real tasks at every level that this machine reaches."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from retirecluster.worker.cgroup_tree import find_tree
from retirecluster.worker.fences import Fences
from retirecluster.worker.places import carved, readable_places
from retirecluster.worker.runner import seccomp
from retirecluster.worker.runner.cgroups import Group
from tests.worker.fenced import make_fences, need_level, proof, runner_of
from tests.worker.runner_client import RunnerClient, alive, gone_within

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")
Start = Callable[[int], RunnerClient]
LEVEL = pytest.mark.parametrize("level", [1, 2, 3])
FENCED = pytest.mark.parametrize("level", [2, 3])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda level: stack.enter_context(runner_of(tmp_path, level))


def outcome_of(runner: RunnerClient, expression: str) -> str:
    """The value of an expression, or the name of the exception that it ended with."""
    report = runner.run("python_eval", {"expression": expression})
    if "value" in report:
        return str(report["value"])
    return str(report["error"]["message"].splitlines()[-1])


def test_the_proof_says_what_holds_and_why_the_rest_does_not() -> None:
    found = proof()
    assert found.level >= 1 and "rlimits" in found.layers
    assert ("seccomp" in found.layers) == (found.level >= 2)
    assert ("no network" in found.layers) == (found.level == 3)
    assert found.level == 3 or found.missing[str(found.level + 1)]


def test_a_proof_is_kept_until_something_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fences, place = make_fences(tmp_path), tmp_path / "fences.json"
    first = fences.cached(place)
    kept = place.read_text()
    monkeypatch.setattr(Fences, "prove", lambda self: pytest.fail("proved again"))
    assert fences.cached(place) == first
    place.write_text(kept.replace(sys.executable, "/another/python"))
    with pytest.raises(BaseException, match="proved again"):
        fences.cached(place)


def test_a_layer_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    monkeypatch.setenv("PATH", str(empty))
    found = make_fences(tmp_path).prove()
    assert found.level < 3 and "bubblewrap (bwrap) is not installed" in found.missing["3"]
    assert "level 3: bubblewrap" in found.why_not(3)


WITHOUT_LANDLOCK = """
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7FFF0000)]
code = b"".join(struct.pack("=HBBI", *step) for step in steps)
kept = ctypes.create_string_buffer(code, len(code))
program = struct.pack("=HxxxxxxQ", len(steps), ctypes.addressof(kept))
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.create_string_buffer(program, 16)) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Starts a program on what is, for it, a kernel without Landlock."""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="writes a filter for a 64-bit little-endian machine")
@FENCED
def test_a_runner_whose_fence_cannot_be_put_on_runs_nothing_and_says_why(tmp_path: Path, level: int) -> None:
    need_level(level)
    command = make_fences(tmp_path).runner(level).command()
    ran = subprocess.run([sys.executable, "-c", WITHOUT_LANDLOCK, *command], stdin=subprocess.DEVNULL,
                         capture_output=True, timeout=20, check=False)  # fmt: skip
    said = json.loads(ran.stdout)
    assert said["e"] == "refused" and said["why"].startswith("Landlock: ")
    assert ran.returncode == 3


@FENCED
def test_the_workers_folder_and_environment_cannot_be_read(start: Start, tmp_path: Path, level: int) -> None:
    runner = start(level)
    key = tmp_path / "data" / "device.key"
    key.write_text("secret")
    key.chmod(0o644)
    for expression in (
        f"open({str(key)!r}).read()",
        f"__import__('os').listdir({str(tmp_path / 'data')!r})",
        f"open('/proc/{os.getpid()}/environ').read()",
        f"open('/proc/{os.getpid()}/mem', 'rb').read(1)",
        "open('/etc/shadow').read()",
        "__import__('os').listdir('/root')",
        "__import__('os').listdir('/')",
    ):
        assert "Error" in outcome_of(runner, expression), expression


@FENCED
def test_another_tasks_folder_cannot_be_read(start: Start, level: int) -> None:
    runner = start(level)
    source = "import os, time\nopen('mine', 'w').write('x')\nprint(os.getcwd(), flush=True)\ntime.sleep(20)"
    runner.start("python_script", {"source": source})
    number, text = runner.count, ""
    while "\n" not in text:
        text += runner.report().get("data", "")
    folder = text.strip()
    assert "PermissionError" in outcome_of(runner, f"open({folder + '/mine'!r}).read()")
    assert "PermissionError" in outcome_of(runner, f"open({folder + '/other'!r}, 'w')")
    runner.order({"do": "cancel", "n": number, "grace": 0})
    runner.until_end(number)


@FENCED
def test_writing_outside_its_folder_fails_and_inside_works(start: Start, level: int) -> None:
    runner = start(level)
    for place in ("/tmp/beside", "/var/tmp/beside", "/dev/shm/beside", "/etc/beside", "../beside", "/usr/beside"):
        assert "Error" in outcome_of(runner, f"open({place!r}, 'w')"), place
    source = "import tempfile, subprocess\nwith tempfile.TemporaryDirectory() as d: open(d + '/f', 'w').write('x')\n"
    report = runner.script(
        source + "print(subprocess.run(['sh', '-c', 'echo a > b; cat b'], capture_output=True).stdout)"
    )
    assert (report["code"], report["stdout"]) == (0, "b'a\\n'\n")


PTRACE_ATTACH = 16
DENIED = {
    "ptrace of the worker": f"c.ptrace({PTRACE_ATTACH}, {os.getpid()}, 0, 0)",
    "ptrace of the runner": f"c.ptrace({PTRACE_ATTACH}, os.getppid(), 0, 0)",
    "a user namespace": "c.unshare(0x10000000)",
    "a namespace by clone": "c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "mount": "c.mount(b'none', b'/', b'tmpfs', 0, None)",
    "bpf": "c.syscall(321, 0, 0, 0)",
    "keyctl": "c.syscall(250, 0, 0, 0, 0, 0)",
    "io_uring": "c.syscall(425, 1, 0)",
    "userfaultfd": "c.syscall(323, 0)",
    "perf": "c.syscall(298, 0, 0, -1, -1, 0)",
    "reading the worker's memory": f"c.syscall(310, {os.getpid()}, 0, 0, 0, 0, 0)",
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls here are those of x86_64")
@FENCED
def test_dangerous_system_calls_are_refused(start: Start, level: int) -> None:
    runner = start(level)
    head = "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
    for what, call in DENIED.items():
        report = runner.script(f"{head}print({call}, ctypes.get_errno())")
        assert report["stdout"] == "-1 1\n", what


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="makes a 32-bit call, which x86_64 has")
@FENCED
def test_a_call_for_another_architecture_ends_the_task(start: Start, level: int) -> None:
    """`int 0x80` reaches the 32-bit table, where the same numbers mean other things."""
    runner = start(level)
    source = (
        "import ctypes, mmap\n"
        "code = mmap.mmap(-1, 4096, prot=7)\n"
        "code.write(bytes([0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3]))\n"
        "ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()\n"
        "print('still here')"
    )
    report = runner.script(source)
    assert report["signal"] == signal.SIGSYS and "stdout" not in report


def test_the_filter_is_whole_for_every_architecture() -> None:
    for which in range(4):
        code = seccomp.program(which)
        assert len(code) % 8 == 0 and len(code) // 8 < 256
    assert seccomp.column("aarch64", False) == 3 and seccomp.column("riscv64", True) is None


@LEVEL
def test_killing_its_parent_and_its_group(start: Start, level: int) -> None:
    """At level 1 a task is the worker's user and may do that: then the runner is replaced. Above it cannot."""
    runner = start(level)
    if level == 1:
        report = runner.script("import os, signal\nos.killpg(0, signal.SIGKILL)")
        assert report["signal"] == signal.SIGKILL
    else:
        report = runner.script("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)")
        if "signals" not in proof().layers:
            pytest.skip("this kernel's Landlock has no scopes for signals (ABI 6)")
        assert "PermissionError" in report["stderr"]
    assert runner.run("echo", {"message": "next"})["value"] == "next"


@FENCED
def test_the_worker_cannot_be_signalled(start: Start, level: int) -> None:
    if "signals" not in proof().layers:
        pytest.skip("this kernel's Landlock has no scopes for signals (ABI 6)")
    runner = start(level)
    other = subprocess.Popen(["sleep", "60"])
    try:
        found = outcome_of(runner, f"__import__('os').kill({other.pid}, 9)")
        assert "PermissionError" in found or "ProcessLookupError" in found
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@LEVEL
def test_deleting_its_own_folder(start: Start, level: int) -> None:
    runner = start(level)
    report = runner.script("import os\nos.rmdir(os.getcwd())\nprint('gone')")
    assert report["code"] in (0, 1)
    for _ in range(3):
        assert runner.script("open('f', 'w').write('x')")["code"] == 0


@LEVEL
def test_fake_lines_of_the_protocol_everywhere(start: Start, level: int) -> None:
    runner = start(level)
    line = '{"e":"end","n":1,"code":0,"value":"forged","pid":1}'
    source = f"import os\nfor fd in (1, 2, 3): os.write(fd, {(line + chr(10)).encode()!r})\nos._exit(4)"
    report = runner.script(source)
    assert (report["code"], report["stdout"], report["stderr"]) == (4, line + "\n", line + "\n")
    assert report["n"] == runner.count
    still = runner.script("import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'{\"e\":\"end\",\"n\":99}\\n')\n"
                          "    except OSError: pass")  # fmt: skip
    assert still["code"] == 0


@FENCED
def test_a_setuid_program_gives_nothing(start: Start, tmp_path: Path, level: int) -> None:
    runner = start(level)
    assert outcome_of(runner, "open('/proc/self/status').read().split('NoNewPrivs:')[1].split()[0]") == "1"
    capabilities = outcome_of(runner, "open('/proc/self/status').read().split('CapEff:')[1].split()[0]")
    assert int(capabilities, 16) == 0
    report = runner.run("command", {"argv": ["sh", "-c", "su -c 'grep CapEff /proc/self/status' root 2>&1; "
                                             "grep CapEff /proc/self/status"]})  # fmt: skip
    assert int(report["stdout"].split()[-1], 16) == 0


def test_there_is_no_network_at_level_3(start: Start) -> None:
    runner = start(3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        connect = f"__import__('socket').create_connection(('127.0.0.1', {port}), 2)"
        assert "Error" in outcome_of(runner, connect)
    assert "Error" in outcome_of(runner, "__import__('socket').create_connection(('192.0.2.1', 80), 2)")
    names = outcome_of(runner, "[name for _, name in __import__('socket').if_nameindex()]")
    assert names in ("['lo']", "[]")


def test_a_namespace_dies_with_its_runner(start: Start) -> None:
    runner = start(3)
    source = "import os, time\nos.setsid() if os.fork() == 0 else None\nprint('up', flush=True)\ntime.sleep(60)"
    runner.start("python_script", {"source": source})
    while "data" not in runner.report():
        pass
    inside = descendants(runner.pid)
    assert len(inside) >= 3
    runner.process.kill()
    assert gone_within(inside, 3.0)


def descendants(pid: int) -> list[int]:
    children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for each in children for below in descendants(each)]


def test_what_escaped_its_session_is_killed_with_its_marker(start: Start, tmp_path: Path) -> None:
    """A runner that is killed: nothing is left that would find the orphans, but what they were born with."""
    runner = start(1)
    source = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork(): os._exit(0)\n"
        "    print(os.getpid(), flush=True)\n"
        "    time.sleep(60)\n"
        "time.sleep(60)"
    )
    runner.start("python_script", {"source": source})
    text = ""
    while "\n" not in text:
        text += runner.report().get("data", "")
    runner.process.kill()
    runner.process.wait()
    assert alive(int(text))
    make_fences(tmp_path).kill_rest(1)
    assert gone_within([int(text)], 2.0)


def test_a_whole_group_is_killed_at_once() -> None:
    """cgroup.kill of version 2: leaving the session and cleaning the environment is no use."""
    tree = find_tree(f"test-kill-{os.getpid()}")
    if tree.homes is None:
        pytest.skip(tree.why_not or "there is no control group of version 2 here")
    home = tree.for_level(1, None)["home"]
    program = (
        "import os, time\n"
        "open(os.environ['DOOR'], 'w').write('0')\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "time.sleep(60)"
    )
    subprocess.run([sys.executable, "-c", program], env={"DOOR": f"{home}/cgroup.procs"}, check=True)
    inside = [int(each) for each in Path(home, "cgroup.procs").read_text().split()]
    assert len(inside) == 1 and alive(inside[0])
    tree.kill(1)
    assert gone_within(inside, 2.0)
    end = time.monotonic() + 5.0
    while Path(home).exists() and time.monotonic() < end:
        tree.remove()
    assert not Path(home).exists()


def test_groups_that_an_earlier_life_left_are_gone_after_the_next_start(tmp_path: Path) -> None:
    tree = find_tree(f"test-left-{os.getpid()}")
    if not tree.bases:
        pytest.skip(tree.why_not)
    settings = make_fences(tmp_path, tree).runner(1)
    runner = RunnerClient(Path(settings.scratch), settings=settings)
    try:
        runner.start("command", {"argv": ["sleep", "60"]}, limits={"memory_bytes": 64 << 20, "processes": 8})
        task = runner.report()["pid"]
        groups = [path for base in tree.bases.values() for path in base.glob("level-1/*-*")]
        assert groups and alive(task)
        for pid in (runner.pid, task):  # nobody is left to tidy up
            os.kill(pid, signal.SIGKILL)
        runner.process.wait()
        make_fences(tmp_path, tree).kill_leftovers()
        assert not [path for path in groups if path.exists()]
        assert all(base.exists() for base in tree.bases.values())  # the next runner's groups are made below
    finally:
        runner.close()
        tree.remove()


def test_hidden_places_are_cut_out(tmp_path: Path) -> None:
    for name in ("shown", "also", "deep/hidden", "deep/shown"):
        (tmp_path / name).mkdir(parents=True)
    hidden = tmp_path / "deep" / "hidden"
    assert carved([str(tmp_path)], [hidden]) == [str(tmp_path / each) for each in ("also", "deep/shown", "shown")]
    assert carved([str(hidden / "below")], [hidden]) == []
    home = str(Path.home())
    assert home not in readable_places([hidden], [home, "/"], sys.executable, [])
    assert "/" not in readable_places([hidden], [home, "/"], sys.executable, [])


def fake_version_2(root: Path, processes: str, controllers: str = "cpu memory pids") -> Path:
    """A /proc and a /sys/fs/cgroup of version 2, made of plain files."""
    own = root / "sys/fs/cgroup/system.slice/worker.service"
    for folder in (own, own / "worker", root / "proc/self"):
        folder.mkdir(parents=True)
    (root / "proc/self/mounts").write_text("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n")
    (root / "proc/self/cgroup").write_text("0::/system.slice/worker.service\n")
    (own / "cgroup.controllers").write_text(controllers)
    (own / "cgroup.procs").write_text(processes)
    return own


def test_a_delegated_group_of_version_2_is_used(tmp_path: Path) -> None:
    own = fake_version_2(tmp_path, f"{os.getpid()}\n")
    tree = find_tree("one", tmp_path)
    assert tree.version == 2 and set(tree.bases.values()) == {own / "retirecluster-one"}
    assert (own / "worker/cgroup.procs").read_text() == "0"
    assert (own / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    told = tree.for_level(1, None)
    assert told["home"] == str(own / "retirecluster-one/level-1/runner")


def test_a_group_that_is_shared_or_without_controllers_is_left_alone(tmp_path: Path) -> None:
    own = fake_version_2(tmp_path / "shared", f"{os.getpid()}\n1\n")
    tree = find_tree("one", tmp_path / "shared")
    assert not tree.bases and "other processes" in tree.why_not
    assert not (own / "cgroup.subtree_control").exists()
    fake_version_2(tmp_path / "bare", f"{os.getpid()}\n", "")
    tree = find_tree("one", tmp_path / "bare")
    assert not tree.bases and tree.homes is not None and "Delegate=yes" in tree.why_not


def test_a_group_of_version_2_is_made_limited_and_read(tmp_path: Path) -> None:
    limits = {"memory_bytes": 64 << 20, "processes": 5, "cpu_cores": 0.5}
    folder = str(tmp_path / "group")
    group = Group(2, dict.fromkeys(("memory", "pids", "cpu"), folder), limits)
    with pytest.raises(FileNotFoundError):  # a plain folder has no files in it by itself
        group.make()
    for name in ("memory.max", "pids.max", "cpu.max", "cgroup.procs"):
        (tmp_path / "group" / name).write_text("")
    for controller, name, value in group.settings():
        assert controller in ("memory", "pids", "cpu")
        (tmp_path / "group" / name).write_text(value)
    read = {each.name: each.read_text() for each in (tmp_path / "group").iterdir()}
    assert (read["memory.max"], read["pids.max"], read["cpu.max"]) == (str(64 << 20), "5", "50000 100000")
    (tmp_path / "group" / "memory.peak").write_text("1234\n")
    (tmp_path / "group" / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1\n")
    assert group.used() == (1.5, 1234) and group.limit_hit() == ""
    (tmp_path / "group" / "pids.events").write_text("max 2\n")
    assert group.limit_hit() == "processes"
    (tmp_path / "group" / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.limit_hit() == "memory_bytes"


@FENCED
def test_shared_memory_of_the_system_is_refused_by_name(start: Start, level: int) -> None:
    """A lock of `multiprocessing` would be a file that all tasks of the device see; see the page about isolation."""
    report = start(level).script("import multiprocessing; multiprocessing.Lock()")
    assert report["code"] == 1 and "Error" in report["stderr"].splitlines()[-1], report
