-- Runs that begin later, after others, or as several.

-- The image of an activation that begins later, as the operator named it.
ALTER TABLE runs ADD COLUMN wanted      TEXT;
-- The run after which it begins; no key, for that one may be gone by the time that it matters.
ALTER TABLE runs ADD COLUMN follows     TEXT    CHECK (follows <> id);
-- Whether that one has ended in a way that lets this one begin.
ALTER TABLE runs ADD COLUMN released    INTEGER NOT NULL DEFAULT 0 CHECK (released IN (0, 1));
-- Whether it begins also if that one was not done.
ALTER TABLE runs ADD COLUMN runs_anyway INTEGER NOT NULL DEFAULT 0 CHECK (runs_anyway IN (0, 1));
ALTER TABLE runs ADD COLUMN not_before  INTEGER;
-- The run that stands for all sources of one command, and how many it began with.
ALTER TABLE runs ADD COLUMN parent      TEXT    REFERENCES runs (id);
ALTER TABLE runs ADD COLUMN members     INTEGER NOT NULL DEFAULT 0 CHECK (members >= 0);
-- Its place among its parent's children.
ALTER TABLE runs ADD COLUMN place       INTEGER NOT NULL DEFAULT 0;

CREATE INDEX runs_by_parent ON runs (parent, place) WHERE parent IS NOT NULL;
CREATE INDEX runs_by_predecessor ON runs (follows, id) WHERE ended_at IS NULL AND follows IS NOT NULL;
CREATE INDEX runs_to_begin ON runs (not_before, id)
    WHERE ended_at IS NULL AND flow IS NULL AND members = 0;
