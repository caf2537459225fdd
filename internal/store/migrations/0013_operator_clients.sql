-- The clients that operators made are listed without those that registered, which are many more.

-- +goose Up

CREATE INDEX clients_by_operator ON clients (created_at, id) WHERE origin = 'operator';
