-- Who may speak for a device: secrets that each let one device join, and the certificates that were issued for them.

-- A secret is kept as its SHA-256 alone. One device can use it, once; that device may ask again if the answer was lost.
CREATE TABLE join_tokens (
    secret_sha256  TEXT PRIMARY KEY,
    role           TEXT NOT NULL,                -- that the device is given; empty: its own
    name           TEXT NOT NULL,                -- device id that it is given; empty: its own
    created_at     REAL NOT NULL,
    expires_at     REAL NOT NULL,
    used_at        REAL,
    nonce_sha256   TEXT NOT NULL DEFAULT ''      -- of what the device that used it has made up, and can say again
) STRICT, WITHOUT ROWID;

-- A device is who has the key of a certificate that stands here, approved and not revoked.
CREATE TABLE device_certificates (
    fingerprint    TEXT PRIMARY KEY,             -- SHA-256 of the certificate
    device_id      TEXT NOT NULL,
    role           TEXT NOT NULL,
    secret_sha256  TEXT NOT NULL,
    issued_at      REAL NOT NULL,
    approved_at    REAL,                         -- NULL: waits for a person
    revoked_at     REAL
) STRICT, WITHOUT ROWID;
CREATE INDEX device_certificates_by_device ON device_certificates (device_id);
