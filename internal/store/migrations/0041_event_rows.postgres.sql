-- Events are sealed in the order in which they were recorded. They get numbers here as SQLite gives them by itself;
-- those that are there already have none, because the log begins after them.

-- +goose Up

CREATE SEQUENCE event_rows;
ALTER TABLE events ADD COLUMN rowid BIGINT;
ALTER TABLE events ALTER COLUMN rowid SET DEFAULT nextval('event_rows');
ALTER SEQUENCE event_rows OWNED BY events.rowid;
CREATE INDEX events_rowid ON events (rowid) WHERE rowid IS NOT NULL;

INSERT INTO schema_compatible (version, down_to) VALUES (41, 60);
