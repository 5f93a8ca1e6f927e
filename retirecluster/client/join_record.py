"""What `join` notes down in the data folder, so that `leave` takes back that and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen

from retirecluster.domain.errors import ClusterError

CONFIG, RECORD, HOME = "worker.json", "joined.json", "cluster.json"
KEYS = ("tls/device.pem", "tls/ca.crt")
"""What a device has from a join string."""


@frozen
class JoinRecord:
    """`settings` are those of worker.json that `join` has set, as it set them; `file` is what starts the worker."""

    kind: str = ""
    file: Path | None = None
    file_sha256: str = ""
    settings: Mapping[str, Any] = field(factory=dict)

    @classmethod
    def load(cls, folder: Path) -> JoinRecord:
        """That of a folder; an empty one where nothing was joined. Raises ClusterError bad_config."""
        if not is_joined(folder):
            return cls()
        found = read_object(folder / RECORD)
        settings = found.get("settings")
        return cls(
            str(found.get("kind")),
            Path(found["file"]) if isinstance(found.get("file"), str) else None,
            str(found.get("file_sha256")),
            settings if isinstance(settings, dict) else {},
        )

    def text(self) -> str:
        """As it stands in the folder."""
        file = None if self.file is None else str(self.file)
        document = {"kind": self.kind, "file": file, "file_sha256": self.file_sha256, "settings": dict(self.settings)}
        return json.dumps(document) + "\n"

    def wrote(self, path: Path) -> bool:
        """Whether the start file at `path` is the one that was written, unchanged."""
        try:
            return path == self.file and digest(path.read_text("utf-8")) == self.file_sha256
        except (OSError, UnicodeDecodeError):
            return False

    def still_set(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the settings in `document` that `join` has set, and nobody has changed since."""
        return {name: value for name, value in self.settings.items() if name in document and document[name] == value}


def is_joined(folder: Path) -> bool:
    """Whether `join` has noted something down there; False for a folder that this user may not look into."""
    return os.path.exists(folder / RECORD)


def digest(text: str) -> str:
    """The SHA-256 of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """A file with one JSON object. Raises ClusterError bad_config."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ClusterError("bad_config", f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ClusterError("bad_config", f"{path} must hold a JSON object such as {{}}")
    return found


def write_file(path: Path, text: str, mode: int) -> None:
    """Replace a file: whole, or not at all. It stays with the user whose it was."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        os.chmod(new, mode)
        if path.exists() and hasattr(os, "chown"):
            os.chown(new, path.stat().st_uid, path.stat().st_gid)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
