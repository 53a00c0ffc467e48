-- The run that a run does again: it is kept as long as that one is.
ALTER TABLE runs ADD COLUMN retry_of TEXT REFERENCES runs (id);
CREATE INDEX runs_by_retry ON runs (retry_of, submitted_at) WHERE retry_of IS NOT NULL;
-- What lists are filtered by.
CREATE INDEX runs_by_state ON runs (state, submitted_at DESC, id);
CREATE INDEX runs_by_source ON runs (source, submitted_at DESC, id, state);
