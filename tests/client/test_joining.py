"""`join` and `leave` on this machine: real probes of real ports, files in the test's folder, no service touched."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from retirecluster.client.console import Console
from retirecluster.client.joining import Joining, Plan
from retirecluster.client.leaving import Leaving
from retirecluster.client.start_files import (
    FOREGROUND,
    MARK,
    SYSTEM,
    TERMUX,
    USER,
    kind_here,
    unit_text,
    unit_word,
    worker_file,
)
from retirecluster.config import load_config
from retirecluster.domain.errors import ClusterError

ROOT = Path(__file__).parents[2]
GREETER = """
import json, socket, sys
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
while True:
    peer, _ = server.accept()
    with peer, peer.makefile("rwb") as lines:
        data = {"protocol_version": 1, "server_id": "c-1", "limits": {}, "auth": "none"}
        lines.write(json.dumps({"message_type": "connection_ack", "data": data}).encode() + b"\\n")
        lines.flush()
        for line in lines:
            lines.write(b'{"message_type": "pong", "data": {}}\\n')
            lines.flush()
"""


SYSTEMCTL = """#!/bin/sh
echo "$@" >> "HERE/systemctl.log"
case "$*" in *restart*)
    [ -e "HERE/alone" ] || { echo "{}" > "HERE/new"; mv "HERE/new" "HERE/worker data/cluster.json"; }
esac
"""


@pytest.fixture
def main_port() -> Any:
    """The port of a process that greets and answers pings as a main does."""
    process = subprocess.Popen([sys.executable, "-c", GREETER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()


@frozen
class Device:
    """A device of the test's: a home folder, and a systemctl that writes down how it was called. What that restarts is
    let into a cluster at once, unless there is a file `alone`."""

    home: Path

    @property
    def environ(self) -> dict[str, str]:
        return {"HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home / ".config")}

    @property
    def unit(self) -> Path:
        return self.home / ".config/systemd/user/retire-worker.service"

    @property
    def folder(self) -> Path:
        return self.home / "worker data"

    def plan(self, join: str, **more: Any) -> Plan:
        return evolve(Plan(self.folder, USER, {"join": join}), **more)

    def join(self, plan: Plan, dry: bool = False) -> str:
        out = io.StringIO()
        assert Joining(Console(out, io.StringIO()), self.environ, dry, within_s=0.3).join(plan) == 0
        return out.getvalue()

    def leave(self, dry: bool = False) -> str:
        out = io.StringIO()
        assert Leaving(Console(out, io.StringIO()), dry).leave(self.folder) == 0
        return out.getvalue()

    def calls(self) -> list[str]:
        log = self.home / "systemctl.log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL.replace("HERE", str(tmp_path)))
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return Device(tmp_path)


def test_without_systemctl_nothing_is_written(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(device.home))
    with pytest.raises(ClusterError, match=r"no systemctl here.*--foreground"):
        device.join(device.plan("127.0.0.1:1"))
    assert not device.folder.exists() and not device.unit.exists()


def test_join_and_leave(device: Device, main_port: int) -> None:
    address = f"127.0.0.1:{main_port}"
    settings = {"join": address, "device_id": "old-laptop", "role": "compute", "wake_on_lan": True}
    said = device.join(device.plan(address, settings=settings))
    assert f"main c-1 at {address} answers" in said
    assert device.unit.read_text() in said, "what is written is shown"
    config = device.folder / "worker.json"
    assert config.stat().st_mode & 0o777 == 0o600
    found = load_config("worker", {}, {}, str(config))
    assert found.items() >= (settings | {"data_dir": str(device.folder)}).items()
    unit = "retire-worker.service"
    assert device.calls() == ["--user daemon-reload", f"--user enable {unit}", f"--user restart {unit}"]
    (device.folder / "cluster.json").write_text("{}")
    (device.folder / "device_id").write_text("old-laptop\n")
    assert "would remove" in device.leave(dry=True)
    assert config.exists()
    device.leave()
    assert device.calls()[3:] == ["--user disable --now retire-worker.service"]
    assert not device.unit.exists()
    assert [path.name for path in device.folder.iterdir()] == ["device_id"]
    with pytest.raises(ClusterError, match="nothing to undo"):
        device.leave()


def test_where_no_main_answers_nothing_is_written(device: Device) -> None:
    with pytest.raises(ClusterError, match=r"no main at 127\.0\.0\.1:1: .*nothing was written") as error:
        device.join(device.plan("127.0.0.1:1"))
    assert error.value.code == "unreachable"
    assert not device.folder.exists()
    assert not device.unit.exists()
    assert device.calls() == []


def test_a_dry_run_only_shows(device: Device) -> None:
    said = device.join(device.plan("127.0.0.1:1"), dry=True)
    assert f"--- {device.unit}" in said
    assert "would run: systemctl --user restart retire-worker.service" in said
    assert not device.folder.exists()
    assert device.calls() == []


def test_what_is_not_ours_stays_unless_forced(device: Device, main_port: int) -> None:
    device.unit.parent.mkdir(parents=True)
    device.unit.write_text("[Service]\nExecStart=/bin/true\n")
    plan = device.plan(f"127.0.0.1:{main_port}")
    with pytest.raises(ClusterError, match="--force overwrites it"):
        device.join(plan)
    assert not device.folder.exists()
    device.join(evolve(plan, force=True))
    assert MARK in device.unit.read_text()


def test_settings_of_the_owner_stay(device: Device, main_port: int) -> None:
    device.folder.mkdir()
    config = device.folder / "worker.json"
    config.write_text('{"join": "10.0.0.9:8080", "policy": {"only_when_charging": true}, "slots": 3}')
    plan = device.plan(f"127.0.0.1:{main_port}")
    with pytest.raises(ClusterError, match=r"joins 10\.0\.0\.9:8080"):
        device.join(plan)
    device.join(evolve(plan, force=True))
    kept = json.loads(config.read_text())
    assert kept["join"] == f"127.0.0.1:{main_port}"
    assert kept["policy"] == {"only_when_charging": True}
    assert kept["slots"] == 3
    device.join(plan)  # once more, over what it wrote itself
    config.write_text(json.dumps(kept | {"slots": 1}))
    assert "changed since" in device.leave()
    assert json.loads(config.read_text()) == {"policy": {"only_when_charging": True}, "slots": 1}


def test_only_settings_that_join_has_set_go(device: Device, main_port: int) -> None:
    """Also those that were added between two joins, and those that join would have set the same."""
    address = f"127.0.0.1:{main_port}"
    device.folder.mkdir()
    config = device.folder / "worker.json"
    config.write_text('{"labels": {"room": "attic"}, "role": "nas"}')
    settings = {"join": address, "role": "nas", "slots": 2, "tags": ["old"]}
    device.join(device.plan(address, settings=settings))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"policy": {"only_when_charging": True}, "slots": 3}))
    device.join(device.plan(address, settings={"join": address, "device_id": "old-nas"}))
    assert json.loads(config.read_text())["device_id"] == "old-nas"
    assert "would keep" in device.leave(dry=True)
    device.leave()
    kept = {"labels": {"room": "attic"}, "role": "nas", "slots": 3, "policy": {"only_when_charging": True}}
    assert json.loads(config.read_text()) == kept


def test_a_unit_that_was_edited_is_kept(device: Device, main_port: int) -> None:
    plan = device.plan(f"127.0.0.1:{main_port}")
    device.join(plan)
    written = device.unit.read_text()
    device.join(plan)
    edited = written.replace("[Service]", "[Service]\nNice=19")
    device.unit.write_text(edited)
    with pytest.raises(ClusterError, match=r"not as retire-cluster join wrote it.*--force"):
        device.join(plan)
    assert f"kept: {device.unit}" in device.leave()
    assert device.unit.read_text() == edited
    assert device.calls()[-1] == "--user disable --now retire-worker.service", "the device works no more all the same"
    assert not (device.folder / "worker.json").exists()
    with pytest.raises(ClusterError, match="--force"):
        device.join(plan)
    device.join(evolve(plan, force=True))
    assert device.unit.read_text() == written


def test_a_unit_for_another_folder_is_not_replaced(device: Device, main_port: int) -> None:
    plan = device.plan(f"127.0.0.1:{main_port}")
    device.join(plan)
    before = device.unit.read_text()
    with pytest.raises(ClusterError, match=r"not as retire-cluster join wrote it for .*elsewhere"):
        device.join(evolve(plan, folder=device.home / "elsewhere"))
    assert device.unit.read_text() == before
    unit, calls = before.replace(str(device.folder), str(device.home / "elsewhere")), device.calls()
    device.unit.write_text(unit)
    assert f"kept: {device.unit}" in device.leave()
    assert device.unit.read_text() == unit and device.calls() == calls, "it starts the other folder's worker"


def test_a_worker_that_is_not_let_in_has_not_joined(device: Device, main_port: int) -> None:
    (device.home / "alone").touch()
    with pytest.raises(ClusterError, match=r"not let in .*journalctl --user -u retire-worker.*leave") as error:
        device.join(device.plan(f"127.0.0.1:{main_port}"))
    assert error.value.code == "unreachable"
    device.leave()


def test_a_worker_that_cannot_be_told_to_end_is_named(
    device: Device, main_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the lock who has not signed it: nothing is removed, and leaving again says the same."""
    monkeypatch.setattr("retirecluster.client.local_worker.SIGNED_WITHIN_S", 0.2)
    device.join(device.plan(f"127.0.0.1:{main_port}"))
    with (device.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(2):
            with pytest.raises(ClusterError, match=r"a worker still runs on .*nothing was removed") as error:
                device.leave()
            assert error.value.code == "conflict"
    assert (device.folder / "worker.json").exists()
    device.leave()
    assert not (device.folder / "worker.json").exists()


def test_a_setting_that_makes_no_sense_is_refused_by_its_name(device: Device) -> None:
    with pytest.raises(ClusterError, match="slots") as error:
        device.join(device.plan("127.0.0.1:1", settings={"join": "127.0.0.1:1", "slots": 0}))
    assert error.value.code == "bad_config"


def test_the_boot_script_of_termux(tmp_path: Path) -> None:
    """Run by a real shell, with a wake lock and a twistd that write down how they were called."""
    prefix = tmp_path / "com.termux" / "files" / "usr"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "sh").symlink_to("/bin/sh")
    environ = {"HOME": str(tmp_path / "home"), "PREFIX": str(prefix)}
    assert kind_here(environ) == TERMUX
    found = worker_file(TERMUX, tmp_path / "it's data" / "worker.json", environ)
    assert found.path == tmp_path / "home/.termux/boot/retire-worker"
    lines = found.text.splitlines()
    assert lines[0] == f"#!{prefix}/bin/sh"
    assert "termux-wake-lock" in lines
    for name in ("termux-wake-lock", "twistd"):
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nfor word in {name} "$@"; do echo "$word" >> "{tmp_path}/calls"; done\n')
        program.chmod(0o755)
    text = found.text.replace(found.text.split("exec ")[1].split()[0], "twistd", 1)
    path = f"{tmp_path}/programs:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", text], check=True, env={"PATH": path})
    called = (tmp_path / "calls").read_text().splitlines()
    assert called[:2] == ["termux-wake-lock", "twistd"]
    assert called[-3:] == ["retire-worker", "--config", str(tmp_path / "it's data" / "worker.json")]


def test_what_starts_programs_here(tmp_path: Path) -> None:
    assert kind_here({}, tmp_path) == FOREGROUND
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    assert kind_here({}, tmp_path) == (SYSTEM if os.geteuid() == 0 else USER)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize(
    "folder", ["/var/lib/plain", "/srv/with space", "/srv/100%", '/srv/a"b', "/srv/a$b", "/srv/a;b"]
)
@pytest.mark.parametrize("system", [True, False])
def test_units_are_accepted_by_systemd(tmp_path: Path, folder: str, system: bool) -> None:
    command = [sys.executable, "-m", "twisted", "--config", f"{folder}/worker.json"]
    unit = tmp_path / "retire-worker.service"
    unit.write_text(unit_text(unit.name, command, system=system, account="root" if system else ""))
    option = [] if system else ["--user"]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(
        ["systemd-analyze", *option, "verify", str(unit)], capture_output=True, text=True, env=environ, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", ["retire-main", "retire-worker"])
def test_the_units_of_deploy_are_accepted_by_systemd(name: str) -> None:
    unit = ROOT / "deploy" / "systemd" / f"{name}.service"
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_words_of_a_unit() -> None:
    assert unit_word("/usr/bin/twistd") == "/usr/bin/twistd"
    assert unit_word("a b") == '"a b"'
    assert unit_word('100% of $HOME "now"') == '"100%% of $$HOME \\"now\\""'
    with pytest.raises(ClusterError):
        unit_word("a\nExecStartPre=/bin/evil")


def test_the_files_of_deploy_are_made_from_the_templates() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    for name in ("retire-main.service", "retire-worker.service", "retire-worker,", "retire-worker;"):
        assert name not in done.stderr
