"""Files through real processes: there and back, through kills, damage, full disks, and by the command line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from retirecluster.domain import failpoints
from retirecluster.transfer import PIECE_BYTES
from tests.integration.cluster import HttpProblem, RealCluster, eventually

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
PIECE = 4 * MIB
FAST = {
    "RETIRE_CLUSTER_HEARTBEAT_INTERVAL_S": "0.5",
    "RETIRE_CLUSTER_FAILOVER_GRACE_S": "60",
}
"""A worker that was killed gets the time to come back with what it has."""


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


def put(cluster: RealCluster, data: bytes, name: str = "", **query: Any) -> dict[str, Any]:
    """Upload in pieces; the last answer's document."""
    document: dict[str, Any] = {}
    for start in range(0, max(len(data), 1), PIECE):
        request = urllib.request.Request(
            f"http://127.0.0.1:{cluster.web_port}/api/v1/files/{name or digest(data)}?offset={start}",
            data[start : start + PIECE],
            {
                "Authorization": f"Bearer {cluster.token}",
                "Content-Type": "application/octet-stream",
                "Upload-Length": str(len(data)),
            },
            method="PUT",
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                document = {"status": answer.status}
        except urllib.error.HTTPError as error:
            raise HttpProblem(error.code, error.read()) from None
    return document


def fetch(cluster: RealCluster, task_id: str, name: str) -> bytes:
    address = f"http://127.0.0.1:{cluster.web_port}/api/v1/tasks/{task_id}/files/{name}"
    with urllib.request.urlopen(address, timeout=60) as answer:
        content: bytes = answer.read()
        return content


def shell(command: str, *outputs: str, **inputs: bytes | str) -> dict[str, Any]:
    """A task with inputs by name: bytes, or a digest."""
    found = [{"name": name, "sha256": each if isinstance(each, str) else digest(each)} for name, each in inputs.items()]
    files = {"inputs": found, "outputs": list(outputs)}
    return {"task_type": "command", "payload": {"command": command, "shell": True}, "files": files}


def outputs(cluster: RealCluster, task_id: str) -> dict[str, str]:
    """Names to digests."""
    return {each["name"]: each["sha256"] for each in cluster.get(f"tasks/{task_id}/files")["outputs"]}


def noise(size: int) -> bytes:
    """Content of that size that no other call gives; made of one random MiB, as more would take long."""
    block = os.urandom(MIB)
    return (block * (size // MIB + 1))[:size]


def sizes(folder: Path) -> int:
    """Bytes of all files in a folder; files may go while it is looked at."""
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def peak_kib(pid: int) -> int:
    """The most resident memory that a process ever had."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0])


@pytest.fixture
def one(cluster: RealCluster) -> RealCluster:
    """A main and a worker."""
    cluster.choose_ports()
    cluster.start_main(environ=FAST)
    cluster.start_worker("one", "--slots", "2")
    cluster.wait_online("one")
    return cluster


# -- there and back


def test_there_and_back(one: RealCluster) -> None:
    put(one, b"hello\n")
    put(one, b"#!/bin/sh\ntr a-z A-Z < data/in.txt > out/up.txt\n")
    program = {
        "name": "run",
        "sha256": digest(b"#!/bin/sh\ntr a-z A-Z < data/in.txt > out/up.txt\n"),
        "executable": True,
    }
    task = shell("mkdir out; ./run; echo $RETIRE_INPUTS; ls", "out/**")
    task["files"]["inputs"] = [{"name": "data/in.txt", "sha256": digest(b"hello\n")}, program]
    [task_id] = one.submit(task)
    assert one.ended(task_id)["status"] == "completed"
    result = one.get(f"tasks/{task_id}/result")
    assert result["output"] == "data/in.txt run\ndata\nout\nrun\n"
    assert fetch(one, task_id, "out/up.txt") == b"HELLO\n"
    eventually(lambda: not list((one.folder / "one" / "scratch").glob("files-*")), what="clean scratch")
    # A task of Python finds them just so; one that fails leaves files as well.
    python = {"task_type": "python_script", "payload": {"source": "open('b','w').write(open('a').read()); exit(3)"}}
    python |= {"files": {"inputs": [{"name": "a", "sha256": digest(b"hello\n")}], "outputs": ["b"]}, "max_retries": 0}
    [task_id] = one.submit(python)
    assert one.ended(task_id)["status"] == "failed"
    assert fetch(one, task_id, "b") == b"hello\n"


@pytest.mark.parametrize("level", [0, 2, 3])
def test_at_every_level(one: RealCluster, level: int) -> None:
    if one.get("devices/one")["isolation"] < level:
        pytest.skip(f"this system does not reach level {level}")
    put(one, b"hello\n")
    task = shell("id -u > who; cat in sub/in > out; ls -ld . in", "who", "out", **{"in": b"hello\n"})
    task["files"]["inputs"].append({"name": "sub/in", "sha256": digest(b"hello\n")})
    [task_id] = one.submit(task | {"requirements": {"isolation": level}})
    assert one.ended(task_id)["status"] == "completed", one.get(f"tasks/{task_id}/result")
    assert fetch(one, task_id, "out") == b"hello\nhello\n"
    assert fetch(one, task_id, "who").strip().isdigit()


def test_two_workers_share_an_input_and_one_fetches_it_once(one: RealCluster) -> None:
    one.start_worker("two", "--slots", "2")
    one.wait_online("two")
    data = noise(8 * MIB)
    put(one, data)
    tasks = [shell("sha256sum in | tee out", "out", **{"in": data}) for _ in range(8)]
    for index, task in enumerate(tasks):
        task["requirements"] = {"device": ("one", "two")[index % 2]}
    for task_id in one.submit(*tasks):
        assert one.ended(task_id)["status"] == "completed"
        assert fetch(one, task_id, "out").startswith(digest(data).encode())
    for name in ("one", "two"):
        assert (one.folder / name / "cache" / digest(data)).stat().st_size == len(data)
        assert one.logs(name).count("could not be fetched") == 0
    assert {path.name for path in (one.folder / "main" / "files").rglob("*") if path.is_file()} >= {digest(data)}


def test_what_a_task_leaves_in_the_way_of_collection(one: RealCluster) -> None:
    command = (
        "ln -s /etc/passwd link; ln -s / root; mkfifo pipe; ln /etc/hostname hard 2>/dev/null || touch hard;"
        "mkdir -p a/../b; echo x > 'b/new\nline'; echo ok > b/fine; ln -s fine b/soft; chmod 0 b/fine; echo y > last"
    )
    [task_id] = one.submit(shell(command, "**"))
    assert one.ended(task_id)["status"] == "completed"
    found = outputs(one, task_id)
    assert set(found) <= {"b/fine", "last", "hard"} and "last" in found
    skipped = "\n".join(one.get(f"tasks/{task_id}/result")["skipped_files"])
    for name in (
        "link: it is a link",
        "root: it is a link",
        "pipe: it is a pipe",
        "b/soft: it is a link",
        "new\\nline",
    ):
        assert name in skipped
    assert "root:" not in one.text(f"api/v1/tasks/{task_id}/result").replace("root: it is", "")
    assert one.submit({"task_type": "echo"})


def test_names_that_lead_out_are_refused_at_submit(one: RealCluster) -> None:
    put(one, b"x")
    for name in ("../x", "/etc/x", "a/../../x", "a\\x", "nul", "x" * 300):
        with pytest.raises(HttpProblem) as caught:
            one.submit(shell("true", **{name: b"x"}))
        assert caught.value.status == 422
    for pattern in ("../*", "/etc/*", "a/../b"):
        with pytest.raises(HttpProblem) as caught:
            one.submit(shell("true", pattern))
        assert caught.value.status == 422


def test_too_many_bytes_of_outputs(cluster: RealCluster) -> None:
    cluster.start_main()
    cluster.start_worker("one", environ={"RETIRE_CLUSTER_MAX_OUTPUT_FILES_BYTES": str(MIB)})
    cluster.wait_online("one")
    [task_id] = cluster.submit(shell("head -c 2000000 /dev/zero > big", "big"))
    task = cluster.ended(task_id)
    assert task["status"] == "failed" and "max_output_files_bytes" in task["reason"]
    assert len(task["attempts"]) == 1  # another attempt would end the same way
    error = cluster.get(f"tasks/{task_id}/result")["error"]
    assert error["kind"] == "files" and error["retryable"] is False
    assert outputs(cluster, task_id) == {}


def test_cancelled_while_its_files_come(one: RealCluster) -> None:
    data = noise(100 * MIB)
    put(one, data)
    [task_id] = one.submit(shell("true", **{"in": data}))
    eventually(lambda: sizes(one.folder / "one" / "cache" / "parts") > 0, what="a fetch")
    one.request("POST", f"tasks/{task_id}/cancel", {})
    assert one.ended(task_id)["status"] in ("cancelled", "completed")
    [task_id] = one.submit({"task_type": "echo"})
    assert one.ended(task_id)["status"] == "completed"


# -- damage


def test_a_content_that_was_changed_on_the_main(one: RealCluster) -> None:
    put(one, b"right")
    place = next((one.folder / "main" / "files").rglob(digest(b"right")))
    place.write_bytes(b"wrong")
    [task_id] = one.submit(shell("cat in", **{"in": b"right"}) | {"max_retries": 0})
    task = one.ended(task_id)
    assert task["status"] == "failed" and "another SHA-256" in task["reason"]
    place.write_bytes(b"right")
    [task_id] = one.submit(shell("cat in", **{"in": b"right"}))
    assert one.ended(task_id)["status"] == "completed"
    place.unlink()
    (one.folder / "one" / "cache" / digest(b"right")).write_bytes(b"evil!")
    [task_id] = one.submit(shell("cat in", **{"in": b"right"}))
    task = one.ended(task_id)
    assert task["status"] == "failed" and "does not have its input" in task["reason"]
    assert len(task["attempts"]) == 1  # it is gone for good: not tried again


def test_a_content_that_was_changed_in_the_cache(one: RealCluster) -> None:
    put(one, b"right")
    for _ in range(2):
        [task_id] = one.submit(shell("cat in", **{"in": b"right"}))
        assert one.ended(task_id)["status"] == "completed"
        assert one.get(f"tasks/{task_id}/result")["output"] == "right"
        (one.folder / "one" / "cache" / digest(b"right")).write_bytes(b"evil!")
    assert "is fetched again" in one.logs("one")


# -- kills


def test_the_main_is_killed_in_the_middle_of_an_upload(cluster: RealCluster) -> None:
    cluster.choose_ports()
    cluster.start_main()
    data = noise(3 * PIECE)
    address = f"files/{digest(data)}"
    headers = {"Authorization": f"Bearer {cluster.token}", "Upload-Length": str(len(data))}

    def piece(start: int) -> tuple[int, str]:
        url = f"http://127.0.0.1:{cluster.web_port}/api/v1/{address}?offset={start}"
        request = urllib.request.Request(url, data[start : start + PIECE], headers, method="PUT")
        request.add_header("Content-Type", "application/octet-stream")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers["Upload-Offset"]

    assert piece(0) == (202, str(PIECE))
    cluster.kill("main")
    cluster.start_main()
    assert piece(PIECE) == (202, str(2 * PIECE))
    cluster.kill("main")
    # What a power cut leaves behind a piece that was never answered.
    [part] = (cluster.folder / "main" / "files" / "parts").iterdir()
    assert part.stat().st_size == 2 * PIECE
    cluster.start_main()
    assert piece(2 * PIECE) == (201, str(len(data)))
    cluster.kill("main")
    cluster.start_main()
    assert [each["sha256"] for each in cluster.get("files")["files"]] == [digest(data)]


@pytest.mark.parametrize("victim", ["main", "one"])
def test_a_kill_while_an_input_is_fetched(one: RealCluster, victim: str) -> None:
    data = noise(150 * MIB)
    put(one, data)
    [task_id] = one.submit(shell("sha256sum in", **{"in": data}))
    parts = one.folder / "one" / "cache" / "parts"
    eventually(lambda: sizes(parts) > MIB, what="a fetch")
    one.kill(victim)
    half = sizes(parts)
    if victim == "main":
        one.start_main(environ=FAST)
    else:
        one.start_worker("one", "--slots", "2")
    task = one.ended(task_id, 90)
    assert task["status"] == "completed" and one.get(f"tasks/{task_id}/result")["output"].startswith(digest(data))
    assert task["charged"] == 0 and task["crashes"] == 0
    if half:  # the kill came in time: what had come was gone on with
        assert "does not have" not in one.logs("one")
    assert sizes(parts) == 0


@pytest.mark.parametrize("victim", ["main", "one"])
def test_a_kill_while_an_output_is_uploaded(one: RealCluster, victim: str) -> None:
    log = one.folder / "runs"
    task = shell(f"head -c {100 * MIB} /dev/zero > big; echo run >> {log}", "big")
    [task_id] = one.submit(task)
    parts = one.folder / "main" / "files" / "parts"
    eventually(lambda: sizes(parts) > 0, timeout_s=60, what="an upload")
    one.kill(victim)
    if victim == "main":
        one.start_main(environ=FAST)
    else:
        one.start_worker("one", "--slots", "2")
    task = one.ended(task_id, 90)
    assert task["status"] == "completed"
    assert log.read_text() == "run\n"  # it ran once: its result and its files outlived the kill
    assert outputs(one, task_id) == {"big": digest(bytes(100 * MIB))}


@pytest.mark.parametrize("point", [failpoints.AFTER_SPOOL, failpoints.AFTER_UPLOAD, failpoints.AFTER_SENT])
def test_the_worker_dies_between_collection_and_acknowledgement(cluster: RealCluster, point: str) -> None:
    cluster.start_main(environ=FAST)
    cluster.start_worker("one", "--slots", "1", environ={failpoints.VARIABLE: point})
    cluster.wait_online("one")
    log = cluster.folder / "runs"
    [task_id] = cluster.submit(shell(f"echo run >> {log}; echo kept > out", "out"))
    cluster.processes.pop("one").wait(30)
    cluster.start_worker("one", "--slots", "1")
    assert cluster.ended(task_id)["status"] == "completed"
    assert fetch(cluster, task_id, "out") == b"kept\n" and log.read_text() == "run\n"


def test_the_worker_dies_before_the_result_is_in_the_journal(one: RealCluster) -> None:
    one.kill("one")
    one.start_worker("one", environ={failpoints.VARIABLE: failpoints.AFTER_EXEC})
    one.wait_online("one")
    [task_id] = one.submit(shell("sleep 1; echo kept > out", "out"))
    one.processes.pop("one").wait(30)
    assert list((one.folder / "one" / "scratch").glob("files-*"))
    one.start_worker("one")
    task = one.ended(task_id)
    assert task["status"] == "completed" and len(task["attempts"]) > 1
    assert fetch(one, task_id, "out") == b"kept\n"
    eventually(lambda: not list((one.folder / "one" / "scratch").glob("files-*")), what="clean scratch")


# -- full disks


def small_disk(folder: Path, mib: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount a small file system to fill")
    words = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")


@pytest.fixture
def disk(cluster: RealCluster) -> Iterator[Callable[[str, int], Path]]:
    """A function that puts a data folder on a file system of so many MiB."""
    mounted: list[Path] = []

    def mount(name: str, mib: int) -> Path:
        small_disk(cluster.folder / name, mib)
        mounted.append(cluster.folder / name)
        return mounted[-1]

    yield mount
    cluster.stop()
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_the_disk_of_the_main_is_full(cluster: RealCluster, disk: Callable[[str, int], Path]) -> None:
    main = disk("main", 32)
    settings = {"RETIRE_CLUSTER_MIN_FREE_BYTES": str(8 * MIB), "RETIRE_CLUSTER_RESERVE_BYTES": str(MIB)}
    cluster.start_main(environ=settings)
    put(cluster, noise(5 * MIB))
    data = noise(30 * MIB)
    with pytest.raises(HttpProblem) as caught:
        put(cluster, data)
    assert caught.value.status == 507 and b"min_free_bytes" in caught.value.body
    assert shutil.disk_usage(main).free >= 8 * MIB
    assert cluster.submit({"task_type": "echo"})  # there is room for tasks
    assert cluster.get("cluster/health")["status"] == "ok"
    cluster.request("DELETE", f"files/{digest(data)}")
    assert sizes(main / "files" / "parts") == 0
    put(cluster, noise(5 * MIB))


def test_the_disk_of_the_worker_is_full(cluster: RealCluster, disk: Callable[[str, int], Path]) -> None:
    worker = disk("one", 100)
    cluster.start_main()
    cluster.start_worker("one")
    cluster.wait_online("one")
    data = noise(60 * MIB)
    put(cluster, data)
    [task_id] = cluster.submit(shell("true", **{"in": data}) | {"max_retries": 0})
    task = cluster.ended(task_id)
    assert task["status"] == "failed" and "no room for its files" in task["reason"]
    assert shutil.disk_usage(worker).free > 64 * MIB
    put(cluster, b"small")
    [task_id] = cluster.submit(shell("cat in", **{"in": b"small"}))
    assert cluster.ended(task_id)["status"] == "completed"


def test_the_main_takes_no_outputs_that_are_too_large(cluster: RealCluster) -> None:
    cluster.start_main(environ={"RETIRE_CLUSTER_MAX_FILE_BYTES": str(MIB)})
    cluster.start_worker("one")
    cluster.wait_online("one")
    [task_id] = cluster.submit(shell("head -c 2000000 /dev/zero > big", "big"))
    task = cluster.ended(task_id)
    assert task["status"] == "failed" and "max_file_bytes" in task["reason"] and len(task["attempts"]) == 1


# -- size


@pytest.mark.slow
def test_200_mb_there_and_back_in_little_memory(one: RealCluster, tmp_path: Path) -> None:
    film = tmp_path / "film"
    with film.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MIB))
    pids = {name: one.processes[name].pid for name in ("main", "one")}
    small = tmp_path / "small"
    small.write_bytes(noise(5 * MIB))
    for path in (small, film):
        before = {name: peak_kib(pid) for name, pid in pids.items()}
        said = client(one, "submit", "--wait", "--input", f"{path}=in", "--output", "out", "--", "cp", "in", "out")
        assert said.returncode == 0, said.stderr
        assert client(one, "get", "last", "-o", tmp_path / f"{path.name}-back").returncode == 0
        back = tmp_path / f"{path.name}-back" / "out"
        assert subprocess.run(["cmp", path, back]).returncode == 0
    # Forty times the bytes, and no more memory than a few pieces of them.
    grown = {name: peak_kib(pid) - before[name] for name, pid in pids.items()}
    assert max(grown.values()) < 32 * 1024, grown


# -- the command line


def test_the_worker_gives_the_memory_of_files_back(one: RealCluster) -> None:
    def move(size: int) -> int:
        data = noise(size)
        put(one, data)
        [task_id] = one.submit(shell(f"cat in > out; echo {size} >> out", "out", **{"in": data}))
        assert one.ended(task_id)["status"] == "completed"
        text = Path(f"/proc/{one.processes['one'].pid}/status").read_text()
        return int(text.split("VmRSS:")[1].split()[0])

    first = move(1000)  # what moves files is loaded now
    for _ in range(4):
        last = move(8 * MIB)
    assert last < first + 6 * 1024


def client(cluster: RealCluster, *words: object) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ,
        "RETIRE_CLUSTER_SERVER": f"http://127.0.0.1:{cluster.web_port}",
        "RETIRE_CLUSTER_TOKEN": cluster.token,
    }
    program = "from retirecluster.client.cli import main; raise SystemExit(main())"
    arguments = [sys.executable, "-c", program, *map(str, words)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=environ)


def test_files_by_the_command_line(one: RealCluster, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    (photos / "1.txt").write_text("one")
    (photos / "more" / "2 ü.txt").write_text("two")
    (tmp_path / "run.sh").write_text("#!/bin/sh\nmkdir -p out\ncat photos/1.txt 'photos/more/2 ü.txt' > out/both\n")
    (tmp_path / "run.sh").chmod(0o755)
    words = ("--input", photos, "--input", f"{tmp_path / 'run.sh'}=run", "--output", "out/*", "--", "./run")
    done = client(one, "submit", "--wait", *words)
    assert done.returncode == 0, done.stderr
    target = tmp_path / "got"
    done = client(one, "get", "last", "-o", target)
    assert (done.returncode, done.stdout) == (0, f"{target}/out/both\n"), done.stderr
    assert (target / "out" / "both").read_text() == "onetwo"
    again = client(one, "get", "last", "-o", target)
    assert again.returncode == 0 and "is there already" in again.stderr
    (target / "out" / "both").write_text("mine")
    refused = client(one, "get", "last", "-o", target)
    assert refused.returncode == 5 and "--force" in refused.stderr
    assert (target / "out" / "both").read_text() == "mine"
    assert client(one, "get", "last", "out/b*", "-o", target, "--force").returncode == 0
    assert (target / "out" / "both").read_text() == "onetwo"
    missing = client(one, "get", "last", "nothing", "-o", target)
    assert missing.returncode == 5 and "out/both" in missing.stderr
    assert client(one, "get", "last", "--inputs", "-o", target).returncode == 0
    assert (target / "photos" / "more" / "2 ü.txt").read_text() == "two"
    # Nothing is written through a link that lies in the way.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "out").symlink_to(elsewhere)
    assert client(one, "get", "last", "-o", trap, "--force").returncode == 5
    assert list(elsewhere.iterdir()) == []
    listed = client(one, "files", "list", "--format", "csv")
    assert listed.returncode == 0 and listed.stdout.count("\n") == 5
    unwanted = digest(b"unwanted")
    put(one, b"unwanted")
    assert client(one, "files", "rm", unwanted).returncode == 0
    assert client(one, "files", "rm", unwanted).returncode == 5
    assert client(one, "files", "rm", digest(b"one")).returncode == 5  # a task names it


def test_an_interrupted_download_goes_on(one: RealCluster, tmp_path: Path) -> None:
    data = noise(20 * MIB)
    put(one, data)
    [task_id] = one.submit(shell("cp in out", "out", **{"in": data}))
    one.ended(task_id)
    target = tmp_path / "got"
    target.mkdir()
    part = target / f".{digest(data)[:24]}.part"
    part.write_bytes(data[: 7 * MIB])
    assert client(one, "get", task_id, "-o", target).returncode == 0
    assert (target / "out").read_bytes() == data and not part.exists()
    (target / "out").unlink()
    part.write_bytes(b"garbage" * 1000)
    refused = client(one, "get", task_id, "-o", target)
    assert refused.returncode == 5 and "not what the task left" in refused.stderr
    assert not (target / "out").exists() and not part.exists()
    assert client(one, "get", task_id, "-o", target).returncode == 0
    part.write_bytes(data + b"more")
    (target / "out").unlink()
    client(one, "get", task_id, "-o", target)
    assert not (target / "out").exists() or (target / "out").read_bytes() == data


def test_an_upload_that_was_killed_goes_on(one: RealCluster, tmp_path: Path) -> None:
    film = tmp_path / "film"
    film.write_bytes(noise(200 * MIB))
    program = "from retirecluster.client.cli import main; raise SystemExit(main())"
    environ = {
        **os.environ,
        "RETIRE_CLUSTER_SERVER": f"http://127.0.0.1:{one.web_port}",
        "RETIRE_CLUSTER_TOKEN": one.token,
    }
    words = [sys.executable, "-c", program, "submit", "--input", str(film), "--", "true"]
    process = subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL)
    parts = one.folder / "main" / "files" / "parts"
    eventually(lambda: sizes(parts) > PIECE, what="an upload")
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    time.sleep(0.2)
    half = sizes(parts)
    assert half % PIECE_BYTES == 0
    assert client(one, "submit", "--wait", "--input", film, "--", "true").returncode == 0
    assert sizes(parts) == 0
