-- A program of the previous release, which runs beside this one while servers are upgraded, does not store by what this
-- one finds clients.

-- +goose Up

-- found_version is the version for which the names and the resources of a client are stored.
ALTER TABLE clients ADD COLUMN found_version BIGINT NOT NULL DEFAULT 0;
UPDATE clients SET found_version = version;
CREATE INDEX clients_unfound ON clients (id) WHERE found_version <> version;

INSERT INTO schema_compatible (version, down_to) VALUES (67, 60);
