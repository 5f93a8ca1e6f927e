-- What people and their homes say: signals for policies, and times in which devices are left alone.

-- A tariff, the sun, home automation: a number with a name that is good for a while.
CREATE TABLE signals (
    name      TEXT PRIMARY KEY,
    value     REAL NOT NULL,
    set_at    REAL NOT NULL,
    until_at  REAL NOT NULL
) STRICT, WITHOUT ROWID;

-- A device that its owner has borrowed, or the whole cluster being quiet.
CREATE TABLE rests (
    device_id  TEXT PRIMARY KEY,           -- empty: all devices
    reason     TEXT NOT NULL,
    running    TEXT NOT NULL CHECK (running IN ('continue', 'suspend', 'hand_back')),
    set_at     REAL NOT NULL,
    until_at   REAL NOT NULL
) STRICT, WITHOUT ROWID;
