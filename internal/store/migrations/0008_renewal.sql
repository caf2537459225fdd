-- A client that registers once more is kept for another day.

-- +goose Up

ALTER TABLE clients ADD COLUMN renewed_at BIGINT;
DROP INDEX clients_unused;
CREATE INDEX clients_unused ON clients (COALESCE(renewed_at, created_at)) WHERE used_at IS NULL AND approved_at IS NULL AND disabled_at IS NULL AND origin <> 'operator';
