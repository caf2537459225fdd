-- Every inserted event waits for its seal, whichever release inserts it.

-- +goose Up

-- Events that are not sealed yet.
CREATE TABLE unsealed (
    at BIGINT NOT NULL,
    id TEXT   NOT NULL,
    PRIMARY KEY (at, id)
);

-- The records of the log, a row for those of one checkpoint.
CREATE TABLE seals (
    number  BIGINT  NOT NULL PRIMARY KEY, -- of the first one
    records BIGINT  NOT NULL,
    begins  BIGINT  NOT NULL, -- the earliest at of their events; 0 if retention has deleted them
    ends    BIGINT  NOT NULL, -- the latest one; likewise
    events  TEXT    NOT NULL, -- at and id of each, in lines; likewise ''
    hashes  BYTEA   NOT NULL, -- of the leaves of the Merkle tree
    codes   BYTEA   NOT NULL  -- each authenticates number and hash of a record
);
CREATE INDEX seals_ends ON seals (ends, number) WHERE ends > 0;

-- +goose StatementBegin
CREATE FUNCTION queue_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unsealed (at, id) VALUES (NEW.at, NEW.id);
    RETURN NULL;
END
$$;
-- +goose StatementEnd

-- It waits until the transactions that write events have ended, so that the next statement sees theirs.
CREATE TRIGGER events_unsealed AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION queue_event();

INSERT INTO settings (name, value) SELECT 'events_older', CAST(COALESCE(MAX(at), 0) AS TEXT) FROM events;
