-- What restarts used to forget: why an attempt was taken back, until when a device is to be empty, how far clean-up is.

-- Charged attempts and closed connections that count no more, since a person released the task.
ALTER TABLE tasks ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN moves INTEGER NOT NULL DEFAULT 0;

-- Why the main told a device to stop it so that it can run elsewhere; empty if it did not.
ALTER TABLE attempts ADD COLUMN taken_back TEXT NOT NULL DEFAULT '';

-- A person wants it empty by then; NULL: no drain with a deadline.
ALTER TABLE devices ADD COLUMN drain_until_at REAL;

-- The clock of retention: it goes on only while the main runs, so that a wall clock that jumps removes nothing.
ALTER TABLE cluster ADD COLUMN retention_at REAL;
