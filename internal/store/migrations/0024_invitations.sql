-- People are invited to make an account.

-- +goose Up

CREATE TABLE invitations (
    user_id      TEXT   NOT NULL PRIMARY KEY, -- of the account that it makes
    email        TEXT   NOT NULL,
    email_key    TEXT   NOT NULL UNIQUE, -- an address has one invitation
    role         TEXT   NOT NULL,
    hash         TEXT   NOT NULL UNIQUE, -- of the token of the newest link
    inviter_type TEXT   NOT NULL,
    inviter_id   TEXT   NOT NULL,
    inviter_name TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
);
CREATE INDEX invitations_created ON invitations (created_at, user_id);
CREATE INDEX invitations_expiry ON invitations (expires_at);

CREATE TABLE invitation_groups (
    user_id  TEXT NOT NULL REFERENCES invitations (user_id) ON DELETE CASCADE,
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, group_id)
);
CREATE INDEX invitation_groups_group ON invitation_groups (group_id, user_id);
