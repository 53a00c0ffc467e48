-- Of a layer: whether it alone is a root filesystem that lies in one directory, which is unwrapped.
ALTER TABLE layers ADD COLUMN wrapped INTEGER NOT NULL DEFAULT 0 CHECK (wrapped IN (0, 1));
-- Of a volume: the digest of all that is in it, NULL where that is not known.
ALTER TABLE volumes ADD COLUMN tree TEXT;
