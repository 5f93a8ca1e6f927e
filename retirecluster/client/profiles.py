"""Named profiles: which main, which token, and the authority that its certificate has to come from.

They stand in one file of the user's configuration folder (XDG_CONFIG_HOME, or ~/.config), for the owner alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import asdict, define, field, frozen

from retirecluster.domain.errors import ClusterError

FILE = Path("retirecluster") / "client.json"


@frozen
class Profile:
    """A main by its base URL. `ca` is a certificate as PEM text, empty for the authorities that this computer trusts;
    `token_id` names a token that `login` made, so that `logout` can end it."""

    server: str
    token: str = field(default="", repr=False)
    token_id: str = ""
    ca: str = field(default="", repr=False)


@define
class Profiles:
    """All profiles of a user. `path` None: there is nowhere to keep them."""

    path: Path | None
    current: str = ""
    by_name: dict[str, Profile] = field(factory=dict)

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Profiles:
        """Those in the user's file; none where there is none. Raises ClusterError bad_config."""
        folder = environ.get("XDG_CONFIG_HOME") or (f"{environ['HOME']}/.config" if environ.get("HOME") else "")
        if not folder:
            return cls(None)
        path = Path(folder) / FILE
        try:
            document: Any = json.loads(path.read_text("utf-8"))
            found = {name: Profile(**each) for name, each in document["profiles"].items()}
            return cls(path, str(document.get("current") or ""), found)
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise ClusterError("bad_config", f"{path} cannot be read: {error.strerror}") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ClusterError(
                "bad_config", f"{path} is damaged: remove it, and `retire-cluster login` again"
            ) from None

    def get(self, name: str) -> Profile:
        """A profile by its name. Raises ClusterError not_found."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name)) or "none yet"
            raise ClusterError(
                "not_found", f"there is no profile {name} (there are: {known}); see retire-cluster login"
            )
        return self.by_name[name]

    def save(self) -> None:
        """Write the file: whole, or not at all, and for its owner alone. Raises ClusterError bad_config."""
        if self.path is None:
            raise ClusterError("bad_config", "profiles need a place: set HOME or XDG_CONFIG_HOME")
        document = {"current": self.current, "profiles": {name: asdict(each) for name, each in self.by_name.items()}}
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(document, indent=2) + "\n")
            os.replace(draft, self.path)
        except OSError as error:
            raise ClusterError("bad_config", f"{self.path} cannot be written: {error.strerror}") from None
