-- What keeps a cluster's past in order: results that did not count, the end of retention, restores.

-- How many transactions were committed; the file cluster.mark beside the database knows it, too, so that a
-- database that lacks the last of them is noticed.
ALTER TABLE cluster ADD COLUMN commits INTEGER NOT NULL DEFAULT 0;

-- Results that were refused (stale, of another device, in conflict, of no known task), for people; the newest 1000.
CREATE TABLE refused_results (
    refused_no  INTEGER PRIMARY KEY,
    at          REAL NOT NULL,
    task_id     TEXT NOT NULL,
    epoch       INTEGER,                    -- as the device said it
    device_id   TEXT NOT NULL,              -- who sent it
    kind        TEXT NOT NULL,              -- not_found, stale_attempt, not_holder, result_conflict
    reason      TEXT NOT NULL,
    document    TEXT NOT NULL               -- JSON: data of the task_result message, cut if it is long
) STRICT;

-- Clean-up takes the tasks that ended first.
CREATE INDEX tasks_by_end ON tasks (finished_at) WHERE finished_at IS NOT NULL;

-- Events may also be about the cluster as a whole. What a CHECK allows cannot be altered: the table is made anew.
CREATE TABLE events_of_all (
    event_no   INTEGER PRIMARY KEY,
    at         REAL NOT NULL,
    subject    TEXT NOT NULL CHECK (subject IN ('task', 'device', 'cluster')),
    kind       TEXT NOT NULL,
    task_id    TEXT,
    device_id  TEXT,
    data       TEXT NOT NULL                -- JSON object
) STRICT;
INSERT INTO events_of_all SELECT event_no, at, subject, kind, task_id, device_id, data FROM events;
DROP TABLE events;
ALTER TABLE events_of_all RENAME TO events;
