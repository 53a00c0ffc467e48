-- Indices for what is looked up among very many rows, most of which have ended.
CREATE INDEX flows_by_end ON flows (machine, ended_at);
CREATE INDEX runs_going_on ON runs (submitted_at DESC, id) WHERE ended_at IS NULL;
CREATE INDEX runs_at_work_by_image ON runs (image) WHERE ended_at IS NULL;
CREATE INDEX flows_going_on ON flows (id) WHERE ended_at IS NULL;
DROP INDEX sources_by_image;
CREATE INDEX sources_by_image ON sources (image, checked_at DESC, place);
