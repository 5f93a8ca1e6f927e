"""Programs and services that tasks ask for, found without starting any of them."""

from __future__ import annotations

import os
import re
from pathlib import Path

TOOLS = (
    "7z", "adb", "bash", "bwrap", "cargo", "clang", "cmake", "convert", "curl", "cwebp", "docker", "exiftool", "ffmpeg",
    "ffprobe", "g++", "gcc", "ghostscript", "git", "go", "gs", "java", "julia", "latexmk", "lua", "magick", "make",
    "mkvmerge", "mpirun", "node", "npm", "nvidia-smi", "opencv_version", "pandoc", "pdflatex", "pdftotext", "perl",
    "php", "podman", "python3", "qemu-system-x86_64", "R", "rclone", "restic", "rsync", "ruby", "rustc", "soffice",
    "sox", "sqlite3", "tar", "tesseract", "typst", "vips", "whisper-cli", "yt-dlp", "zstd",
)  # fmt: skip
"""Found ones are announced as `tool:ffmpeg`."""
SERVICES = {
    "docker": ("var/run/docker.sock", "run/docker.sock"),
    "podman": ("run/podman/podman.sock",),
    "postgresql": ("var/run/postgresql/.s.PGSQL.5432", "tmp/.s.PGSQL.5432"),
    "mysql": ("var/run/mysqld/mysqld.sock",),
    "redis": ("var/run/redis/redis-server.sock", "run/redis/redis.sock"),
    "cups": ("run/cups/cups.sock",),
    "mpd": ("run/mpd/socket",),
}
"""Where services that run on a device have their sockets, below the root; announced as `service:docker`."""
_VERSION = re.compile(r"-?v?(\d+(?:\.\d+)*)$")


def find_tools(path: str) -> dict[str, str]:
    """Programs of the table on a search path, each with its version where the file's own name tells (gcc-12)."""
    folders = [Path(each) for each in path.split(os.pathsep) if each]
    found = {}
    for name in TOOLS:
        place = next((folder / name for folder in folders if os.access(folder / name, os.X_OK)), None)
        if place is not None:
            found[name] = version_in_name(name, place)
    return found


def version_in_name(name: str, place: Path) -> str:
    """`3.11` where `python3` leads to `python3.11`; empty where the name does not tell."""
    target = os.path.basename(os.path.realpath(place))
    stem = name.rstrip("0123456789")
    at = target.rfind(stem)
    found = _VERSION.fullmatch(target[at + len(stem) :]) if at >= 0 and target != name else None
    return found[1] if found else ""


def find_services(root: Path) -> list[str]:
    """Names of services whose socket is there."""
    return [name for name, places in SERVICES.items() if any((root / place).exists() for place in places)]
