-- Clients that wait for an administrator, what was decided about them, and clients that may not come back.

-- +goose Up

-- waiting_clients is the inbox. A client is in it while somebody has asked since it was dismissed.
CREATE TABLE waiting_clients (
    client_id    TEXT   NOT NULL PRIMARY KEY REFERENCES clients (id) ON DELETE CASCADE,
    first_at     BIGINT NOT NULL,
    last_at      BIGINT NOT NULL,
    people       BIGINT NOT NULL, -- how many asked since it was dismissed
    user_id      TEXT   NOT NULL, -- who asked last, for what, and where the answer was to go
    resource_id  TEXT   NOT NULL,
    scope        TEXT   NOT NULL,
    redirect_uri TEXT   NOT NULL,
    dismissed_at BIGINT
);
CREATE INDEX waiting_clients_first ON waiting_clients (first_at, client_id);
CREATE INDEX waiting_clients_last ON waiting_clients (last_at);

CREATE TABLE waiting_people (
    client_id TEXT NOT NULL REFERENCES waiting_clients (client_id) ON DELETE CASCADE,
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (client_id, user_id)
);
CREATE INDEX waiting_people_user ON waiting_people (user_id);

-- An approval lets the members of a group allow a client something, or one person once. An approval for everybody is
-- clients.approved_at.
CREATE TABLE client_approvals (
    id         TEXT   NOT NULL PRIMARY KEY,
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    group_id   TEXT   REFERENCES groups (id) ON DELETE CASCADE, -- NULL: for one person
    user_id    TEXT   REFERENCES users (id) ON DELETE CASCADE,  -- NULL: for a group
    created_at BIGINT NOT NULL,
    expires_at BIGINT,            -- of one for a person
    spent_on   TEXT   NOT NULL    -- the authorization request that used up one for a person; '': none yet
);
CREATE UNIQUE INDEX client_approvals_group ON client_approvals (client_id, group_id) WHERE group_id IS NOT NULL;
CREATE UNIQUE INDEX client_approvals_user ON client_approvals (client_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX client_approvals_client ON client_approvals (client_id);
CREATE INDEX client_approvals_of_group ON client_approvals (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX client_approvals_of_user ON client_approvals (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX client_approvals_expiry ON client_approvals (expires_at) WHERE expires_at IS NOT NULL;

-- client_blocks outlive the clients they name, because these may try to come back.
CREATE TABLE client_blocks (
    id         TEXT   NOT NULL PRIMARY KEY,
    client_id  TEXT   NOT NULL UNIQUE,
    name       TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    marks      TEXT   NOT NULL, -- JSON
    created_at BIGINT NOT NULL
);
CREATE INDEX client_blocks_created ON client_blocks (created_at, id);
