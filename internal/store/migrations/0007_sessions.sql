-- A session is named by an id that opens nothing, and tells where a person signed in.

-- +goose Up

ALTER TABLE sessions ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN user_agent TEXT NOT NULL DEFAULT '';
UPDATE sessions SET id = 'ses_' || substr(hash, 1, 16);

-- The lists, each in its order. A session that is used moves to a later place, so a list that is read meanwhile may
-- show it twice, and misses none.
DROP INDEX sessions_user;
DROP INDEX sessions_expiry;
CREATE INDEX sessions_user ON sessions (user_id, expires_at, id);
CREATE INDEX sessions_expiry ON sessions (expires_at, id);
