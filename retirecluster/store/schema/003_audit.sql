-- Who changed what, and what was refused to whom.

-- Rows are added and never changed; the oldest go first (see cleanup), so that each row can be tied to the one before.
CREATE TABLE audit (
    audit_no  INTEGER PRIMARY KEY AUTOINCREMENT,  -- a number is never used again, whatever was removed
    at        REAL NOT NULL,
    actor     TEXT NOT NULL,              -- 'admin', 'tcp client', 'device:ID', 'peer:ADDRESS'
    action    TEXT NOT NULL,              -- task.cancel, device.drain, result.refused, ...
    subject   TEXT NOT NULL,              -- what it was about: a task or device id, or empty
    detail    TEXT NOT NULL               -- JSON object
) STRICT;

CREATE TRIGGER audit_rows_stay_as_they_are BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'an audit row never changes'); END;

-- Refused results are asked for by task.
CREATE INDEX refused_results_by_task ON refused_results (task_id, refused_no);
