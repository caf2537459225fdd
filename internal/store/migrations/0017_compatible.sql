-- Which programs can work with a schema that has migrations they do not know. Each migration after those that were
-- there when this table came says it of itself: INSERT INTO schema_compatible (version, down_to) VALUES (61, 60);

-- +goose Up

CREATE TABLE schema_compatible (
    version BIGINT NOT NULL PRIMARY KEY, -- the number of the migration
    down_to BIGINT NOT NULL              -- the number of the newest migration of the oldest program that works with it
);
