"""Leaving the cluster: the worker is stopped, and what `join` wrote is taken back."""

from __future__ import annotations

import json
from pathlib import Path

from attrs import define

from retirecluster.client.console import Console
from retirecluster.client.join_record import CONFIG, HOME, KEYS, RECORD, JoinRecord, read_object, write_file
from retirecluster.client.local_worker import LocalWorker
from retirecluster.client.start_files import SYSTEM, USER, is_ours, run, stop_commands
from retirecluster.domain.errors import ClusterError


@define(eq=False)
class Leaving:
    """One run of `leave`. Everything is said; a `dry` run stops and removes nothing."""

    console: Console
    dry: bool = False

    def leave(self, folder: Path) -> int:
        """Undo what `join` did there, as far as nobody has changed it since; gives the exit code.

        Raises ClusterError not_found, or conflict where the worker cannot be stopped: then nothing is removed."""
        record = JoinRecord.load(folder)
        if not record.kind:
            words = f"nothing to undo: {folder / RECORD} is missing; name the folder by --data-dir"
            raise ClusterError("not_found", words)
        self._stop(folder, record)
        if record.file is not None:
            self._remove_start(record.file, record)
        self._remove_settings(folder / CONFIG, record)
        for name in (*KEYS, HOME, RECORD):
            self._remove(folder / name)
        self.console.line(f"kept: the rest of {folder}, with the journal and the device's id; remove it if you like")
        return 0

    def _stop(self, folder: Path, record: JoinRecord) -> None:
        worker, managed = LocalWorker(folder), record.kind in (SYSTEM, USER)
        if managed and record.file is not None and record.file.exists():
            if record.wrote(record.file) or _starts(record.file, folder):
                for command in stop_commands(record.kind):
                    self.console.line(f"{'would run' if self.dry else 'run'}: {' '.join(command)}")
                    if not self.dry:
                        run(command)
            elif worker.runs() and not is_ours(record.file):
                words = f"{record.file} was not written by retire-cluster join, and its worker runs: stop that first"
                raise ClusterError("conflict", words)
        if not worker.runs():
            return
        name = f"process {worker.pid or '(not known)'}"
        self.console.lines([f"{'would stop' if self.dry else 'stop'}: {name}"])
        if not self.dry and not worker.end():
            words = f"a worker still runs on {folder}, {name}; nothing was removed: end it, and leave again"
            raise ClusterError("conflict", words)

    def _remove_start(self, path: Path, record: JoinRecord) -> None:
        if record.wrote(path):
            self._remove(path)
        elif path.exists():
            self.console.line(f"kept: {path}, which was changed since; as long as it is there it may start the worker")

    def _remove_settings(self, path: Path, record: JoinRecord) -> None:
        """Take those out that `join` has set and nobody has changed; the file goes if it holds no others."""
        if not path.exists():
            return
        try:
            document = read_object(path)
        except ClusterError as error:
            return self.console.line(f"kept: {error.message}")
        ours = record.still_set(document)
        rest = {name: value for name, value in document.items() if name not in ours}
        if not rest:
            return self._remove(path)
        said = f"{'would keep' if self.dry else 'kept'}: {path} with {', '.join(rest)}"
        self.console.line(f"{said}, which join did not set or which was changed since")
        if ours and not self.dry:
            write_file(path, json.dumps(rest, indent=2) + "\n", 0o600)

    def _remove(self, path: Path) -> None:
        if path.exists():
            self.console.line(f"{'would remove' if self.dry else 'removed'}: {path}")
            if not self.dry:
                path.unlink()


def _starts(unit: Path, folder: Path) -> bool:
    """Whether a unit that `join` wrote, and somebody may have changed since, starts the worker of this folder."""
    return is_ours(unit) and str(folder / CONFIG) in unit.read_text("utf-8", errors="replace")
