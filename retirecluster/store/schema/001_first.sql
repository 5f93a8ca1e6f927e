-- The cluster itself: one row.
CREATE TABLE cluster (
    only_row     INTEGER PRIMARY KEY CHECK (only_row = 1),
    cluster_id   TEXT NOT NULL,             -- also in the file cluster.id beside the database
    incarnation  INTEGER NOT NULL,          -- grows by one at each start of the main
    created_at   REAL NOT NULL,             -- Unix seconds, as every column *_at
    running_s    REAL NOT NULL              -- how long the cluster has run in all; orders the queue
) STRICT;

-- Every device that ever registered and was not removed.
CREATE TABLE devices (
    device_id      TEXT PRIMARY KEY,
    session_no     INTEGER NOT NULL,        -- grows with each accepted connection
    presence       TEXT NOT NULL CHECK (presence IN ('online', 'disconnected', 'offline')),
    role_override  TEXT,                    -- role given by a person
    draining       INTEGER NOT NULL,
    cordoned       INTEGER NOT NULL,
    deaths         TEXT NOT NULL,           -- JSON: tasks its worker died on, one after the other; 3 make it suspect
    reason         TEXT NOT NULL,
    first_seen_at  REAL NOT NULL,
    last_seen_at   REAL NOT NULL,           -- as of the last change of the row; heartbeats do not write
    completed      INTEGER NOT NULL,
    failed         INTEGER NOT NULL,
    register       TEXT NOT NULL            -- JSON: data of its last register message, attempts left out
) STRICT, WITHOUT ROWID;

-- Every task. A final state never changes (see the trigger).
CREATE TABLE tasks (
    seq              INTEGER PRIMARY KEY,   -- 1, 2, 3, ... in order of submission
    task_id          TEXT NOT NULL UNIQUE,
    task_type        TEXT NOT NULL,
    name             TEXT NOT NULL,
    priority         INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 3),
    state            TEXT NOT NULL CHECK (state IN (
                         'blocked', 'queued', 'assigned', 'running', 'retrying', 'held', 'cancelling',
                         'completed', 'failed', 'cancelled', 'expired', 'lost')),
    epoch            INTEGER NOT NULL,      -- attempts granted so far; the last one's number
    charged          INTEGER NOT NULL,      -- attempts that count against max_retries
    crashes          INTEGER NOT NULL,      -- attempts that took their worker down
    order_s          REAL NOT NULL,         -- place in the queue, see placement
    created_at       REAL NOT NULL,
    started_at       REAL,
    finished_at      REAL,
    deadline_at      REAL,
    not_before_at    REAL,                  -- end of the pause before the next attempt
    reason           TEXT NOT NULL,
    timeout_s        REAL NOT NULL,
    max_retries      INTEGER NOT NULL,
    delivery         TEXT NOT NULL CHECK (delivery IN ('at_least_once', 'at_most_once')),
    on_disconnect    TEXT NOT NULL CHECK (on_disconnect IN ('keep', 'stop')),
    labels           TEXT NOT NULL,         -- JSON object, or empty
    requirements     TEXT NOT NULL,         -- JSON object as submitted
    retry_of         TEXT,                  -- the task that this one repeats
    idempotency_key  TEXT,
    request_digest   TEXT,                  -- of the request that the key came with
    body             TEXT NOT NULL          -- JSON: what travels to the device
) STRICT;

CREATE UNIQUE INDEX tasks_by_key ON tasks (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX tasks_by_state ON tasks (state, seq);

CREATE TRIGGER tasks_final_is_final BEFORE UPDATE ON tasks
WHEN OLD.state IN ('completed', 'failed', 'cancelled', 'expired', 'lost') AND NEW.state IS NOT OLD.state
BEGIN SELECT RAISE(ABORT, 'a final state never changes'); END;

CREATE TRIGGER tasks_epoch_grows BEFORE UPDATE ON tasks
WHEN NEW.epoch < OLD.epoch
BEGIN SELECT RAISE(ABORT, 'an epoch never shrinks'); END;

-- Every grant of a task to a device.
CREATE TABLE attempts (
    task_seq     INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    device_id    TEXT NOT NULL,
    session_no   INTEGER NOT NULL,
    granted_at   REAL NOT NULL,
    started_at   REAL,
    finished_at  REAL,
    outcome      TEXT,                      -- NULL while it is current
    charged      INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    PRIMARY KEY (task_seq, epoch)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempts_by_device ON attempts (device_id, task_seq);

-- The last result of each task, of whichever attempt.
CREATE TABLE results (
    task_seq  INTEGER PRIMARY KEY,
    epoch     INTEGER NOT NULL,
    document  TEXT NOT NULL                 -- JSON: data of the task_result message
) STRICT;

-- What happened, in order and without gaps. Never changed; old rows are removed from the front.
CREATE TABLE events (
    event_no   INTEGER PRIMARY KEY,
    at         REAL NOT NULL,
    subject    TEXT NOT NULL CHECK (subject IN ('task', 'device')),
    kind       TEXT NOT NULL,
    task_id    TEXT,
    device_id  TEXT,
    data       TEXT NOT NULL                -- JSON object
) STRICT;
