-- A decision tells what was decided, so that the same answer given again has the same outcome.

-- +goose Up

ALTER TABLE decisions ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
ALTER TABLE decisions ADD COLUMN grant_id TEXT NOT NULL DEFAULT ''; -- '': denied
ALTER TABLE decisions ADD COLUMN codes BIGINT NOT NULL DEFAULT 0;   -- sent after the first
