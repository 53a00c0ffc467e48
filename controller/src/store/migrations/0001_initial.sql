-- What is here, where it came from, and what is being done about it.
-- Digests are text ("sha256:…"), sizes bytes, times Unix milliseconds.

-- Facts about the database itself: whether it was closed cleanly.
CREATE TABLE meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A layer by its uncompressed content. There is one only after a blob was fetched and validated.
CREATE TABLE layers (
    diff_id    TEXT    NOT NULL PRIMARY KEY,
    entries    INTEGER NOT NULL CHECK (entries >= 0),
    file_bytes INTEGER NOT NULL CHECK (file_bytes >= 0)
) STRICT, WITHOUT ROWID;

-- A file of the blob store, and how it looked when it was validated.
CREATE TABLE blobs (
    digest     TEXT    NOT NULL PRIMARY KEY,
    diff_id    TEXT    NOT NULL REFERENCES layers (diff_id),
    bytes      INTEGER NOT NULL CHECK (bytes >= 0),
    inode      INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    fetched_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_layer ON blobs (diff_id);

-- A sealed volume: what is unpacked was fetched.
CREATE TABLE volumes (
    chain_id  TEXT    NOT NULL PRIMARY KEY,
    parent    TEXT    REFERENCES volumes (chain_id),
    diff_id   TEXT    NOT NULL REFERENCES layers (diff_id),
    sealed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX volumes_by_parent ON volumes (parent);
CREATE INDEX volumes_by_layer ON volumes (diff_id);

-- An image. `unpacked` is its volume once that is sealed.
CREATE TABLE images (
    digest     TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    top        INTEGER NOT NULL,
    chain_id   TEXT    NOT NULL,
    unpacked   TEXT    REFERENCES volumes (chain_id),
    created_at INTEGER NOT NULL,
    used_at    INTEGER NOT NULL,
    CHECK (unpacked IS NULL OR unpacked = chain_id),
    UNIQUE (digest, unpacked),
    -- The uppermost layer is there, and with it its blob.
    FOREIGN KEY (digest, top, chain_id) REFERENCES image_layers (image, position, chain_id)
        DEFERRABLE INITIALLY DEFERRED
) STRICT, WITHOUT ROWID;
CREATE INDEX images_by_name ON images (name, digest);
CREATE INDEX images_by_volume ON images (unpacked);

CREATE TABLE image_layers (
    image    TEXT    NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
    position INTEGER NOT NULL CHECK (position >= 0),
    blob     TEXT    NOT NULL REFERENCES blobs (digest),
    diff_id  TEXT    NOT NULL REFERENCES layers (diff_id),
    chain_id TEXT    NOT NULL,
    PRIMARY KEY (image, position),
    UNIQUE (image, position, chain_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_layers_by_blob ON image_layers (blob);
CREATE INDEX image_layers_by_chain ON image_layers (chain_id);
CREATE INDEX image_layers_by_layer ON image_layers (diff_id);

-- What a place held when it was last looked at.
CREATE TABLE sources (
    place      TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    image      TEXT    NOT NULL REFERENCES images (digest) ON DELETE CASCADE,
    bytes      INTEGER NOT NULL,
    etag       TEXT,
    version    TEXT,
    modified   INTEGER,
    checked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sources_by_name ON sources (name);
CREATE INDEX sources_by_image ON sources (image);

-- What is active was unpacked: the key leads to an image whose volume is sealed.
CREATE TABLE snapshots (
    name       TEXT    NOT NULL PRIMARY KEY,
    image      TEXT    NOT NULL,
    chain_id   TEXT    NOT NULL,
    read_only  INTEGER NOT NULL CHECK (read_only IN (0, 1)),
    is_default INTEGER NOT NULL CHECK (is_default IN (0, 1)),
    bytes      INTEGER NOT NULL,
    -- `leaving`: its removal was begun and is carried on at the next start.
    state      TEXT    NOT NULL CHECK (state IN ('active', 'leaving')),
    created_at INTEGER NOT NULL,
    FOREIGN KEY (image, chain_id) REFERENCES images (digest, unpacked)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshots_by_image ON snapshots (image);
CREATE UNIQUE INDEX one_default_snapshot ON snapshots (image) WHERE is_default = 1;

-- Volumes whose records are gone and which the helper is still to delete.
CREATE TABLE doomed (
    chain_id TEXT    NOT NULL PRIMARY KEY,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The state machines' tables, written from the code at each start: what is not here cannot happen.
CREATE TABLE transition (
    machine TEXT NOT NULL,
    source  TEXT NOT NULL,
    event   TEXT NOT NULL,
    target  TEXT NOT NULL,
    PRIMARY KEY (machine, source, event, target)
) STRICT, WITHOUT ROWID;

-- One passage through one state machine.
CREATE TABLE flows (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    machine       TEXT    NOT NULL,
    definition    INTEGER NOT NULL,
    subject       TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    step          INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    interruptions INTEGER NOT NULL,
    input         TEXT    NOT NULL CHECK (json_valid(input)),
    data          TEXT    NOT NULL CHECK (json_valid(data)),
    fault         TEXT    CHECK (fault IS NULL OR json_valid(fault)),
    request       TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    changed_at    INTEGER NOT NULL,
    ended_at      INTEGER,
    UNIQUE (id, machine)
) STRICT;
-- Whoever asks for what is under way already joins it.
CREATE UNIQUE INDEX one_flow_a_subject ON flows (machine, subject) WHERE ended_at IS NULL;

-- The event log: every attempt at every state. Only ever appended to.
CREATE TABLE steps (
    flow       INTEGER NOT NULL,
    step       INTEGER NOT NULL,
    machine    TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    event      TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    took_ms    INTEGER NOT NULL,
    outcome    TEXT,
    PRIMARY KEY (flow, step),
    FOREIGN KEY (flow, machine) REFERENCES flows (id, machine) ON DELETE CASCADE,
    FOREIGN KEY (machine, source, event, target)
        REFERENCES transition (machine, source, event, target)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER steps_are_only_appended BEFORE UPDATE ON steps
BEGIN
    SELECT RAISE(ABORT, 'the event log is only ever appended to');
END;

-- What an operator asked for: a chain of flows, of which `flow` is the present one.
CREATE TABLE runs (
    id           TEXT    NOT NULL PRIMARY KEY,
    kind         TEXT    NOT NULL CHECK (kind IN ('pull', 'activate', 'run')),
    key          TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    source       TEXT,
    image        TEXT,
    activation   TEXT    CHECK (activation IS NULL OR json_valid(activation)),
    position     INTEGER NOT NULL,
    flow         INTEGER REFERENCES flows (id),
    state        TEXT    NOT NULL CHECK (state IN ('running', 'done', 'failed', 'cancelled')),
    tally        TEXT    NOT NULL CHECK (json_valid(tally)),
    fault        TEXT    CHECK (fault IS NULL OR json_valid(fault)),
    request      TEXT    NOT NULL,
    uid          INTEGER NOT NULL,
    submitted_at INTEGER NOT NULL,
    ended_at     INTEGER,
    CHECK ((state = 'running') = (ended_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_run_a_key ON runs (key) WHERE ended_at IS NULL;
CREATE INDEX runs_by_time ON runs (submitted_at DESC, id);
CREATE INDEX runs_by_flow ON runs (flow);

CREATE TABLE run_flows (
    run  TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    flow INTEGER NOT NULL REFERENCES flows (id),
    PRIMARY KEY (run, flow)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_flows_by_flow ON run_flows (flow);
