-- Records that cannot be read, or not gone on with, by this version: each with all that it held.
CREATE TABLE unreadable (
    kind         TEXT    NOT NULL CHECK (kind IN ('flow', 'run')),
    -- A flow's number, or the id under which a run is listed.
    id           TEXT    NOT NULL,
    why          TEXT    NOT NULL,
    record       TEXT    NOT NULL CHECK (json_valid(record)),
    since        INTEGER NOT NULL,
    -- When the operator was done with it.
    settled_at   INTEGER,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- Each start of the daemon. The newest is the one that may write: an older one has lost its place.
CREATE TABLE epochs (
    epoch        INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    boot_id      TEXT    NOT NULL,
    pid          INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    -- When it stopped of its own will.
    stopped_at   INTEGER
) STRICT;

-- The start that took the flow up last.
ALTER TABLE flows ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
