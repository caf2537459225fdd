-- Who asked for what an event tells of: a person, a client, or a command of an operator; '' is nobody known, or the
-- server.

-- +goose Up

ALTER TABLE events ADD COLUMN actor_type TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN actor_id TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN actor_name TEXT NOT NULL DEFAULT '';
