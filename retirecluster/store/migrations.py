"""Opens a database and brings it to the newest schema, one numbered file after the other."""

from __future__ import annotations

import re
import sqlite3
from importlib.resources import files
from pathlib import Path

from retirecluster.domain import failpoints
from retirecluster.domain.audit_chain import COLUMNS, ChainWriter
from retirecluster.domain.errors import ClusterError
from retirecluster.store.folder import sync

APPLICATION_ID = 0x52435331
"""`PRAGMA application_id` of our databases ("RCS1"): a foreign file is told from ours."""


def scripts() -> list[tuple[int, str]]:
    """(number, SQL) of every schema file, in order."""
    found = []
    for each in files("retirecluster.store.schema").iterdir():
        match = re.fullmatch(r"(\d{3})_\w+\.sql", each.name)
        if match:
            found.append((int(match[1]), each.read_text("utf-8")))
    return sorted(found)


def migrate(connection: sqlite3.Connection, path: Path, reached: failpoints.Reached = failpoints.unarmed) -> None:
    """Bring the database at `path` to the newest schema; a copy of an older one is kept beside it first.

    Raises ClusterError bad_config for a database that is not ours or is from a newer version.
    """
    version = check_ours(connection, path)
    known = scripts()
    newest = known[-1][0]
    if 0 < version < newest:
        _back_up(connection, path.with_name(f"{path.name}.before-{version + 1:03}"))
    for number, script in known:
        if number > version:
            apply(connection, number, script)
            reached(failpoints.MIGRATING)


def check_ours(connection: sqlite3.Connection, path: Path) -> int:
    """The schema's number; 0 for an empty database. Raises ClusterError bad_config for one that is not for us."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    newest = scripts()[-1][0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise ClusterError(
            "bad_config",
            f"{path} is a database of another program: name another --data-dir, or put it aside and "
            f"retire-cluster restore FILE --data-dir {path.parent}",
        )
    if version > newest:
        raise ClusterError(
            "bad_config", f"{path} has schema {version}, this version knows {newest}: install the newer retirecluster"
        )
    return version


def _back_up(connection: sqlite3.Connection, copy: Path) -> None:
    """Copy to a draft first: what stands at `copy` is whole, and of before the migration."""
    draft = copy.with_name(f"{copy.name}.new")
    draft.unlink(missing_ok=True)
    target = sqlite3.connect(draft)
    try:
        connection.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
    finally:
        target.close()
    sync(draft)
    draft.chmod(0o600)
    draft.replace(copy)
    sync(copy.parent)


def apply(connection: sqlite3.Connection, number: int, script: str) -> None:
    """Apply one file in one transaction, the version number included."""
    # Rows of the audit trail that are older than their chain are tied together as they are copied, one by one.
    connection.create_function("audit_hash", len(COLUMNS), ChainWriter().add)
    connection.executescript(
        f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {APPLICATION_ID};\n"
        f"PRAGMA user_version = {number};\nCOMMIT;"
    )
