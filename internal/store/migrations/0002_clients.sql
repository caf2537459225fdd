-- Clients that prove themselves by a key, that manage their own registration, or that are described by a document.

-- +goose Up

ALTER TABLE clients ADD COLUMN registration_token TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN changed_at BIGINT;
ALTER TABLE clients ADD COLUMN fetched_at BIGINT;
DROP INDEX clients_unused;
CREATE INDEX clients_unused ON clients (created_at) WHERE used_at IS NULL AND approved_at IS NULL AND disabled_at IS NULL AND origin <> 'operator';

ALTER TABLE grants ADD COLUMN method TEXT NOT NULL DEFAULT '';

-- assertions are the client assertions that were used, so that none is used twice (RFC 7523 section 3).
CREATE TABLE assertions (
    hash       TEXT   NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX assertions_expiry ON assertions (expires_at);

-- initial_access_tokens let their holder register clients (RFC 7591 section 3).
CREATE TABLE initial_access_tokens (
    id         TEXT   NOT NULL PRIMARY KEY,
    hash       TEXT   NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    uses       BIGINT NOT NULL, -- so far
    max_uses   BIGINT NOT NULL, -- 0: any number
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX initial_access_tokens_created ON initial_access_tokens (created_at, id);

-- profile_uses count how often a rule for single clients was needed.
CREATE TABLE profile_uses (
    name         TEXT   NOT NULL PRIMARY KEY,
    uses         BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL
);
