-- Operators work through an API of this server, which is a resource of its own.

-- +goose Up

-- built_in marks the resources that the server makes and nobody changes.
ALTER TABLE resources ADD COLUMN built_in BIGINT NOT NULL DEFAULT 0;

-- version rises with each change that operators see, so that two who change a row at once do not undo each other's
-- change.
ALTER TABLE resources ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE clients ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE users ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- expires_at ends a client's credentials; NULL is never.
ALTER TABLE clients ADD COLUMN expires_at BIGINT;

-- What a request with an Idempotency-Key was answered, so that the same request again is not done twice. body never has
-- a secret.
CREATE TABLE idempotency_keys (
    caller     TEXT   NOT NULL,
    route      TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    body_hash  TEXT   NOT NULL,
    status     BIGINT NOT NULL,
    body       TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (caller, route, key)
);
CREATE INDEX idempotency_keys_caller ON idempotency_keys (caller, at);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- A session is found by its id.
CREATE INDEX sessions_id ON sessions (id);
