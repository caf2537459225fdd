-- A session is named by an id that opens nothing, and tells where a person signed in.

-- +goose Up

ALTER TABLE sessions ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN user_agent TEXT NOT NULL DEFAULT '';
UPDATE sessions SET id = 'ses_' || substr(hash, 1, 16);
CREATE UNIQUE INDEX sessions_id ON sessions (id) WHERE id <> '';

-- The lists, each in its order.
DROP INDEX sessions_user;
CREATE INDEX sessions_user ON sessions (user_id, signed_in_at, id);
CREATE INDEX sessions_signed_in ON sessions (signed_in_at, id);
