-- One text for SQLite and PostgreSQL. Times are Unix microseconds; NULL is "has not happened". Lengths of time are
-- microseconds, 0 is "the default". Lists of words are joined by single spaces.

-- +goose Up

-- versions tell every process when what it remembers is out of date.
CREATE TABLE versions (
    kind    TEXT   NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO versions (kind, version) VALUES ('clients', 1), ('keys', 1), ('resources', 1);

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE resources (
    id               TEXT   NOT NULL PRIMARY KEY,
    identifier       TEXT   NOT NULL UNIQUE,
    name             TEXT   NOT NULL,
    scopes           TEXT   NOT NULL, -- JSON
    signing_alg      TEXT   NOT NULL,
    access_ttl       BIGINT NOT NULL,
    refresh_idle_ttl BIGINT NOT NULL,
    refresh_max_ttl  BIGINT NOT NULL,
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL
);
CREATE INDEX resources_created ON resources (created_at, id);

CREATE TABLE clients (
    id                    TEXT   NOT NULL PRIMARY KEY,
    origin                TEXT   NOT NULL,
    metadata              TEXT   NOT NULL, -- JSON
    allowed               TEXT   NOT NULL,
    resources             TEXT   NOT NULL,
    resource_server       TEXT   NOT NULL,
    secret_hash           TEXT,
    secret_created_at     BIGINT,
    secret_expires_at     BIGINT,
    old_secret_hash       TEXT,
    old_secret_created_at BIGINT,
    old_secret_expires_at BIGINT,
    access_ttl            BIGINT NOT NULL,
    fingerprint           TEXT,
    created_at            BIGINT NOT NULL,
    approved_at           BIGINT,
    disabled_at           BIGINT,
    used_at               BIGINT
);
CREATE INDEX clients_created ON clients (created_at, id);
CREATE UNIQUE INDEX clients_fingerprint ON clients (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX clients_unused ON clients (created_at) WHERE used_at IS NULL AND origin = 'registration';

CREATE TABLE users (
    id            TEXT   NOT NULL PRIMARY KEY,
    email         TEXT   NOT NULL,
    email_key     TEXT   NOT NULL UNIQUE,
    name          TEXT   NOT NULL,
    password_hash TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    disabled_at   BIGINT
);
CREATE INDEX users_created ON users (created_at, id);

CREATE TABLE sessions (
    hash         TEXT   NOT NULL PRIMARY KEY,
    user_id      TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    signed_in_at BIGINT NOT NULL,
    amr          TEXT   NOT NULL,
    seen_at      BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL, -- never after ends_at
    ends_at      BIGINT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

-- A grant outlives the client, the user and the resource it names, so that a replay is still recognised and a list
-- still tells what was: it refers to them without foreign keys, and works only while client and user are there and
-- enabled.
CREATE TABLE grants (
    id             TEXT   NOT NULL PRIMARY KEY,
    client_id      TEXT   NOT NULL,
    user_id        TEXT   NOT NULL,
    resource_id    TEXT   NOT NULL,
    redirect_uri   TEXT   NOT NULL,
    scope          TEXT   NOT NULL,
    refreshable    BIGINT NOT NULL, -- 0 or 1
    secret         TEXT   NOT NULL,
    generation     BIGINT NOT NULL,
    rotated_at     BIGINT,
    signed_in_at   BIGINT,
    amr            TEXT   NOT NULL,
    created_at     BIGINT NOT NULL,
    last_used_at   BIGINT,          -- NULL until its code is redeemed
    expires_at     BIGINT NOT NULL, -- never after ends_at
    ends_at        BIGINT NOT NULL,
    revoked_at     BIGINT,
    revoked_reason TEXT   NOT NULL
);
CREATE INDEX grants_created ON grants (created_at, id);
CREATE INDEX grants_user ON grants (user_id, client_id);
CREATE INDEX grants_client ON grants (client_id);
CREATE INDEX grants_resource ON grants (resource_id);
CREATE INDEX grants_over ON grants (COALESCE(revoked_at, expires_at));

CREATE TABLE codes (
    hash         TEXT   NOT NULL PRIMARY KEY,
    grant_id     TEXT   NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    redirect_uri TEXT   NOT NULL,
    challenge    TEXT   NOT NULL,
    expires_at   BIGINT NOT NULL,
    spent_at     BIGINT
);
CREATE INDEX codes_grant ON codes (grant_id);

CREATE TABLE revoked_tokens (
    jti        TEXT   NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
CREATE INDEX revoked_tokens_expiry ON revoked_tokens (expires_at);

CREATE TABLE decisions (
    interaction_id TEXT   NOT NULL PRIMARY KEY,
    expires_at     BIGINT NOT NULL
);
CREATE INDEX decisions_expiry ON decisions (expires_at);

CREATE TABLE signing_keys (
    kid        TEXT   NOT NULL PRIMARY KEY,
    alg        TEXT   NOT NULL,
    sealed     TEXT   NOT NULL,
    public     TEXT   NOT NULL, -- a JWK
    created_at BIGINT NOT NULL,
    active_at  BIGINT NOT NULL,
    retired_at BIGINT,
    expires_at BIGINT
);

-- The key is (at, id), not id: rows arrive in the order of at, so the index grows at one end.
CREATE TABLE events (
    at          BIGINT NOT NULL,
    id          TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    outcome     TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    description TEXT   NOT NULL,
    client_id   TEXT   NOT NULL,
    user_id     TEXT   NOT NULL,
    grant_id    TEXT   NOT NULL,
    resource    TEXT   NOT NULL,
    scope       TEXT   NOT NULL,
    detail      TEXT   NOT NULL, -- JSON, or ''
    request_id  TEXT   NOT NULL,
    address     TEXT   NOT NULL,
    user_agent  TEXT   NOT NULL,
    PRIMARY KEY (at, id)
);
CREATE INDEX events_client ON events (client_id, at) WHERE client_id <> '';
CREATE INDEX events_user ON events (user_id, at) WHERE user_id <> '';
CREATE INDEX events_grant ON events (grant_id, at) WHERE grant_id <> '';
