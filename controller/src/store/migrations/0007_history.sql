-- What became of runs whose history was removed: the bare outcome.
CREATE TABLE archived_runs (
    id           TEXT    NOT NULL PRIMARY KEY,
    kind         TEXT    NOT NULL CHECK (kind IN ('pull', 'activate', 'run')),
    subject      TEXT    NOT NULL,
    source       TEXT,
    image        TEXT,
    activation   TEXT    CHECK (activation IS NULL OR json_valid(activation)),
    state        TEXT    NOT NULL CHECK (state IN ('done', 'failed', 'cancelled')),
    tally        TEXT    NOT NULL CHECK (json_valid(tally)),
    fault        TEXT    CHECK (fault IS NULL OR json_valid(fault)),
    request      TEXT    NOT NULL,
    uid          INTEGER NOT NULL,
    submitted_at INTEGER NOT NULL,
    ended_at     INTEGER NOT NULL,
    retry_of     TEXT,
    archived_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX archived_runs_by_time ON archived_runs (archived_at);
-- Runs that ended, oldest first.
CREATE INDEX runs_by_end ON runs (ended_at, id) WHERE ended_at IS NOT NULL;
