"""What this device has from joining by a join string: the authority that it trusts, its certificate and its key."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from retirecluster.domain.errors import ClusterError
from retirecluster.worker.data_folder import sync_folder

if TYPE_CHECKING:
    from retirecluster.tls import Identity


@frozen
class Keys:
    """The folder `tls` of a worker's data folder, for its owner alone."""

    data_folder: Path

    @property
    def folder(self) -> Path:
        return self.data_folder / "tls"

    @property
    def key_file(self) -> Path:
        """The device's key and certificate, in one file: one renaming replaces both."""
        return self.folder / "device.pem"

    @property
    def here(self) -> bool:
        """Whether there are some. From then on this device speaks TLS, and to nobody else."""
        return self.key_file.exists()

    def identity(self) -> Identity:
        """As connections use it. Raises ClusterError bad_config."""
        from retirecluster.tls import Identity  # not above: it takes memory that a worker without TLS does not need

        try:
            found = Identity((self.folder / "ca.crt").read_text("ascii"), self.key_file)
            found.context()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            words = f"{self.folder}: the keys of this device cannot be used: {error}; join anew with a new join string"
            raise ClusterError("bad_config", words) from None
        return found

    def nonce(self) -> str:
        """What this device says with a secret, so that it alone may say the secret again. Kept until it has joined."""
        path = self.folder / "joining"
        self._make_folder()
        if not path.exists():
            _write(path, secrets.token_urlsafe(32))
        return path.read_text("ascii")

    def keep(self, ca: str, certificate: str, key: str) -> None:
        """Use these from now on. The key comes last: before, there is none."""
        self._make_folder()
        self.key_file.unlink(missing_ok=True)
        _write(self.folder / "ca.crt", ca)
        _write(self.key_file, key + certificate)
        (self.folder / "joining").unlink(missing_ok=True)

    def _make_folder(self) -> None:
        self.folder.mkdir(0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)


def _write(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)
