-- How far devices can be relied upon, and tasks that run on two devices so that their results can be compared.

-- What is held against a device, as JSON figures that fade with the cluster's running time.
ALTER TABLE devices ADD COLUMN trust_ledger TEXT NOT NULL DEFAULT '{}';
-- Why it is in quarantine; empty if it is not.
ALTER TABLE devices ADD COLUMN quarantine TEXT NOT NULL DEFAULT '';
-- In quarantine: no probe before the cluster has run so many seconds in all (cluster.running_s).
ALTER TABLE devices ADD COLUMN probe_after_s REAL NOT NULL DEFAULT 0;

-- On how many devices the task has to give the same result; 1: it is not verified.
ALTER TABLE tasks ADD COLUMN verify INTEGER NOT NULL DEFAULT 1;

-- Of each verified task: its copies (tasks of their own), and what they came to.
CREATE TABLE verifications (
    task_seq  INTEGER PRIMARY KEY,
    state     TEXT NOT NULL CHECK (state IN ('pending', 'agreed', 'differ', 'impossible', 'stopped')),
    reason    TEXT NOT NULL,
    copies    TEXT NOT NULL               -- JSON: [{task_id, seq, device_id, state, sha256}, ...], the first first
) STRICT;
