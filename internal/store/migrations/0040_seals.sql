-- The audit log is sealed into a Merkle log.

-- +goose Up

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
