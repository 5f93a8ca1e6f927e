-- Who may do what: access tokens, sessions of browsers, and an audit trail whose rows are tied to one another.

-- Tokens that people made, beside the admin token of the data folder. What is stored of a token is its SHA-256: a token
-- is 256 random bits, so that nothing slower is needed, and whoever reads the database has none of them.
CREATE TABLE tokens (
    token_id      TEXT PRIMARY KEY,
    digest        TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
    name          TEXT NOT NULL UNIQUE,
    role          TEXT NOT NULL CHECK (role IN ('admin', 'operator', 'submit', 'read')),
    created_at    REAL NOT NULL,
    expires_at    REAL,                    -- NULL: never
    last_used_at  REAL                     -- written now and then, so it may be some minutes behind
) STRICT, WITHOUT ROWID;

-- Browsers that have logged in, by the SHA-256 of their cookie. A session may what the token may that it was opened
-- with, and ends with it.
CREATE TABLE sessions (
    digest        TEXT PRIMARY KEY CHECK (length(digest) = 64),
    token_digest  TEXT NOT NULL,
    created_at    REAL NOT NULL,
    expires_at    REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- The trail anew: from where with which role in which request, and each row with the hash over it and the one before.
CREATE TABLE audit_chained (
    audit_no    INTEGER PRIMARY KEY AUTOINCREMENT,  -- a number is never used again, whatever was removed
    at          REAL NOT NULL,
    actor       TEXT NOT NULL,              -- 'admin', 'token:NAME', 'tcp client', 'device:ID', 'peer:ADDRESS', 'main'
    role        TEXT NOT NULL,              -- what the actor was allowed; empty for devices and strangers
    address     TEXT NOT NULL,              -- from where it came, if over HTTP
    request_id  TEXT NOT NULL,              -- X-Request-Id of the request, if it was one
    action      TEXT NOT NULL,              -- task.cancel, device.drain, result.refused, ...
    subject     TEXT NOT NULL,              -- what it was about: a task or device id, or empty
    detail      TEXT NOT NULL,              -- JSON object
    hash        TEXT NOT NULL CHECK (length(hash) = 64)
) STRICT;

-- audit_hash is ours, see migrations: it is called for one row after the other.
INSERT INTO audit_chained
SELECT audit_no, at, actor, '', '', '', action, subject, detail,
       audit_hash(audit_no, at, actor, '', '', '', action, subject, detail)
FROM audit ORDER BY audit_no;

-- Where the chain begins and ends: the last row that was removed by clean-up (number 0 before the first), and the last
-- row there is. Without it nobody could tell that rows are missing at an end.
CREATE TABLE audit_chain (
    only_row    INTEGER PRIMARY KEY CHECK (only_row = 1),
    first_no    INTEGER NOT NULL,
    first_hash  TEXT NOT NULL,
    last_no     INTEGER NOT NULL,
    last_hash   TEXT NOT NULL
) STRICT;
INSERT INTO audit_chain
SELECT 1, coalesce(min(audit_no) - 1, 0), '', coalesce(max(audit_no), 0),
       coalesce((SELECT hash FROM audit_chained ORDER BY audit_no DESC LIMIT 1), '')
FROM audit_chained;

DROP TABLE audit;
ALTER TABLE audit_chained RENAME TO audit;

CREATE TRIGGER audit_rows_stay_as_they_are BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'an audit row never changes'); END;

-- Only the oldest rows go, and only after the beginning of the chain was moved beyond them.
CREATE TRIGGER audit_rows_stay BEFORE DELETE ON audit
WHEN OLD.audit_no > (SELECT first_no FROM audit_chain)
BEGIN SELECT RAISE(ABORT, 'an audit row is not removed'); END;

-- Who submitted a task; NULL for tasks of earlier versions.
ALTER TABLE tasks ADD COLUMN submitted_by TEXT;
