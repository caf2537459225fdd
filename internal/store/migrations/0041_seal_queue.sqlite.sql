-- Every inserted event waits for its seal, whichever release inserts it.

-- +goose Up

-- Events that are not sealed yet.
CREATE TABLE unsealed (
    at INTEGER NOT NULL,
    id TEXT    NOT NULL,
    PRIMARY KEY (at, id)
) WITHOUT ROWID;

-- The records of the log, a row for those of one checkpoint.
CREATE TABLE seals (
    number  INTEGER NOT NULL PRIMARY KEY, -- of the first one
    records INTEGER NOT NULL,
    begins  INTEGER NOT NULL, -- the earliest at of their events; 0 if retention has deleted them
    ends    INTEGER NOT NULL, -- the latest one; likewise
    events  TEXT    NOT NULL, -- at and id of each, in lines; likewise ''
    hashes  BLOB    NOT NULL, -- of the leaves of the Merkle tree
    codes   BLOB    NOT NULL  -- each authenticates number and hash of a record
);
CREATE INDEX seals_ends ON seals (ends, number) WHERE ends > 0;

-- +goose StatementBegin
CREATE TRIGGER events_unsealed AFTER INSERT ON events BEGIN
    INSERT INTO unsealed (at, id) VALUES (NEW.at, NEW.id);
END;
-- +goose StatementEnd

INSERT INTO settings (name, value) SELECT 'events_older', CAST(COALESCE(MAX(at), 0) AS TEXT) FROM events;
