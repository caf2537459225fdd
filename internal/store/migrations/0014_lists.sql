-- Clients are listed by how they came to be known.

-- +goose Up

CREATE INDEX clients_by_registration ON clients (created_at, id) WHERE origin = 'registration';
CREATE INDEX clients_by_document ON clients (created_at, id) WHERE origin = 'document';
