-- The list of all grants has an index of its own form, so that no list of a person, a client or a resource, each of
-- which has an index in the same order, is looked for in all grants.

-- +goose Up

DROP INDEX grants_created;
CREATE INDEX grants_created ON grants ((created_at + 0), id);
