-- A list of all clients is put together from those of each origin, so that each registration keeps fewer indexes.

-- +goose Up

DROP INDEX clients_created;
DROP INDEX client_names_key;

INSERT INTO schema_compatible (version, down_to) VALUES (68, 60);
