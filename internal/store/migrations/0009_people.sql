-- What people may do here, the groups they are in, and whether the installation has been set up.

-- +goose Up

ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT '';
CREATE INDEX users_role ON users (role, id) WHERE role <> '';

CREATE TABLE groups (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL UNIQUE,
    description TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE INDEX groups_created ON groups (created_at, id);

CREATE TABLE group_members (
    group_id TEXT   NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id  TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_members_user ON group_members (user_id, group_id);
CREATE INDEX group_members_added ON group_members (group_id, added_at, user_id);

-- setup has one row. Whoever decides about the owners locks it first, so that they decide one after the other.
CREATE TABLE setup (
    id         BIGINT NOT NULL PRIMARY KEY,
    hash       TEXT,   -- of the token of the one-time link, NULL if none was made
    expires_at BIGINT, -- of the link
    done_at    BIGINT  -- when the first owner was made; it is never taken back
);
INSERT INTO setup (id) VALUES (1);
