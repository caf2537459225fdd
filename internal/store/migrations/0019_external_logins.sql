-- The application whose own sign-in page people use, and its answers.

-- +goose Up

-- login_client has at most one row.
CREATE TABLE login_client (
    id        BIGINT NOT NULL PRIMARY KEY, -- 1
    client_id TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE
);

CREATE TABLE external_logins (
    hash        TEXT   NOT NULL PRIMARY KEY, -- of the state
    request     TEXT   NOT NULL, -- the login request that was answered
    application TEXT   NOT NULL, -- the incarnation of the client that answered
    answer      TEXT   NOT NULL, -- JSON
    expires_at  BIGINT NOT NULL
);
CREATE INDEX external_logins_expiry ON external_logins (expires_at);
