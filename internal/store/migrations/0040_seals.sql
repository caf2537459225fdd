-- The audit log is sealed into a Merkle log.

-- +goose Up

-- The records of the log, a row for those of one checkpoint.
CREATE TABLE seals (
    number  BIGINT NOT NULL PRIMARY KEY, -- of the first one
    records BIGINT NOT NULL,
    begins  BIGINT NOT NULL, -- the earliest at of their events; 0 if retention has deleted them
    ends    BIGINT NOT NULL, -- the latest one; likewise
    events  TEXT   NOT NULL, -- at and id of each, in lines; likewise ''
    hashes  BYTEA  NOT NULL, -- of the leaves of the Merkle tree
    codes   BYTEA  NOT NULL  -- each authenticates number and hash of a record
);
CREATE INDEX seals_ends ON seals (ends, number) WHERE ends > 0;

-- Hashes of full subtrees with 256 to the power of level records.
CREATE TABLE seal_trees (
    level  BIGINT NOT NULL,
    number BIGINT NOT NULL,
    hash   BYTEA  NOT NULL,
    PRIMARY KEY (level, number)
);

-- The signed states of the log. Each names the size before it, so that two that follow the same one cannot both exist.
CREATE TABLE checkpoints (
    size     BIGINT NOT NULL PRIMARY KEY,
    previous BIGINT NOT NULL UNIQUE,
    at       BIGINT NOT NULL,
    note     TEXT   NOT NULL
);
CREATE INDEX checkpoints_at ON checkpoints (at);

INSERT INTO settings (name, value) SELECT 'events_older', CAST(COALESCE(MAX(at), 0) AS TEXT) FROM events;

INSERT INTO schema_compatible (version, down_to) VALUES (40, 60);
