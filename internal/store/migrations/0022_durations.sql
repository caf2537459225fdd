-- A person says how long a client may act for them.

-- +goose Up

ALTER TABLE grants ADD COLUMN duration TEXT NOT NULL DEFAULT '';   -- '': until it is disconnected
-- session_id is the browser session with which the grant ends.
ALTER TABLE grants ADD COLUMN session_id TEXT NOT NULL DEFAULT '';
