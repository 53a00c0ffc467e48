-- Bytes and time of each sub-step of an attempt, as a JSON list: what was measured, and nothing else.
ALTER TABLE steps ADD COLUMN timings TEXT CHECK (timings IS NULL OR json_valid(timings));
