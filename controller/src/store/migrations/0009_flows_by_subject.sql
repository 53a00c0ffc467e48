-- The last flow on a subject is asked for by whoever waits for it, also when it ended long ago.
CREATE INDEX flows_by_subject ON flows (machine, subject, id);
