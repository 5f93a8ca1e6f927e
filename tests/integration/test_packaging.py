"""Installed from the checkout, as a wheel and editable: daemons, command, schema and pages are there."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT = Path("retirecluster", "web", "static", "built")
pytestmark = pytest.mark.integration


def copy_of_the_checkout(folder: Path) -> Path:
    """What git tracks, so that building leaves nothing in the tree under test."""
    copy = folder / "checkout"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("the tests do not run from a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    if (ROOT / BUILT).is_dir():
        shutil.copytree(ROOT / BUILT, copy / BUILT)
    return copy


def build_environment(checkout: Path) -> dict[str, str]:
    """Without node and a registry: what is built already is used as it is, or left out."""
    current = subprocess.run(
        [sys.executable, "-c", "import front_end; raise SystemExit(not front_end.is_current())"],
        cwd=checkout / "web",
        check=False,
    )
    return {**os.environ, "RETIRECLUSTER_WITHOUT_WEB": "1" if current.returncode else ""}


def environment(folder: Path) -> Path:
    """A fresh virtual environment that finds the dependencies of this one, but not the project."""
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return folder / "bin" / "python"


@pytest.mark.parametrize("how", [[], ["--editable"]], ids=["wheel", "editable"])
def test_installed(how: list[str], tmp_path: Path) -> None:
    checkout, python = copy_of_the_checkout(tmp_path), environment(tmp_path / "venv")
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        *how,
        str(checkout),
    ]
    variables = build_environment(checkout)
    done = subprocess.run(install, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr

    def run(*arguments: str) -> str:
        ended = subprocess.run([str(python), *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    twistd = ["-c", "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"]
    for daemon in ("retire-main", "retire-worker"):
        assert "--data-dir" in run(*twistd, daemon, "--help")
    assert "main node of a retirecluster" in run(*twistd, "--help")
    assert run(str(tmp_path / "venv" / "bin" / "retire-cluster"), "version").strip()
    where = "import retirecluster; print(retirecluster.__file__)"
    assert str(tmp_path) in run("-c", where), "the environment uses its own copy"
    assert run("-c", "from retirecluster.store.migrations import scripts; print(scripts()[0][0])").strip() == "1"
    pages = "from importlib.resources import files; print((files('retirecluster.web.static') / 'index.html').is_file())"
    assert run("-c", pages).strip() == "True"
    script = "from retirecluster.web.pages import load_assets; print('terminal.js' in load_assets())"
    assert run("-c", script).strip() == str((ROOT / BUILT / "terminal.js").is_file())


def test_a_build_does_without_the_front_end_where_it_cannot_be_had(tmp_path: Path) -> None:
    """No registry of npm: the wheel is made, what is missing is said, and a release fails."""
    checkout = copy_of_the_checkout(tmp_path)
    shutil.rmtree(checkout / BUILT, ignore_errors=True)
    nowhere = {"npm_config_registry": "http://127.0.0.1:9/", "npm_config_cache": str(tmp_path / "cache")}

    def build(**more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "-w", str(tmp_path / "wheels"), "."]
        variables = {**os.environ, "RETIRECLUSTER_WITHOUT_WEB": "", **nowhere, **more}
        return subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True, check=False)

    done = build()
    assert done.returncode == 0, done.stderr
    assert "the terminal in the browser is NOT in this build" in done.stdout + done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("wheels/*.whl"))) as wheel:
        names = wheel.namelist()
    assert "retirecluster/web/static/terminal-missing.html" in names
    assert not [name for name in names if name.endswith("terminal.js")]
    refused = build(RETIRECLUSTER_WITH_WEB="1")
    assert refused.returncode and "NotBuilt" in refused.stdout + refused.stderr, "a release is not made without it"


def test_the_plugin_folders_have_no_init() -> None:
    """One in twisted/ breaks all imports of Twisted, one in twisted/plugins/ hides the plugin."""
    assert [path.name for path in (ROOT / "twisted").rglob("*.py")] == ["retirecluster_plugin.py"]
