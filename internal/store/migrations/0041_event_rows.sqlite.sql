-- Events are sealed in the order in which they were recorded, which SQLite's row ids have: it has one writer at a time.

-- +goose Up

INSERT INTO settings (name, value) SELECT 'events_begin', CAST(COALESCE(MAX(rowid), 0) AS TEXT) FROM events;

INSERT INTO schema_compatible (version, down_to) VALUES (41, 60);
