-- Files that tasks bring and leave. A file is its content: it lies in the folder files/ beside the database, under
-- the name of its SHA-256, and is there as a whole or not at all.
CREATE TABLE files (
    sha256      TEXT PRIMARY KEY CHECK (length(sha256) = 64),
    size_bytes  INTEGER NOT NULL,
    created_at  REAL NOT NULL,
    used_at     REAL NOT NULL              -- when it was last wanted: submitted with a task, or reported by a device
) STRICT, WITHOUT ROWID;

CREATE INDEX files_by_use ON files (used_at);

-- What a task calls its files: inputs as submitted (epoch 0), outputs as the device of that attempt reported them.
-- Rows stay as long as their task, also where the content is lost.
CREATE TABLE task_files (
    task_seq    INTEGER NOT NULL,
    epoch       INTEGER NOT NULL,
    direction   TEXT NOT NULL CHECK (direction IN ('input', 'output')),
    name        TEXT NOT NULL,
    sha256      TEXT NOT NULL,
    size_bytes  INTEGER NOT NULL,
    executable  INTEGER NOT NULL,
    PRIMARY KEY (task_seq, direction, epoch, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX task_files_by_content ON task_files (sha256);
