-- A second factor: codes of an authenticator app (RFC 6238), and recovery codes for its loss.

-- +goose Up

CREATE TABLE totp (
    user_id    TEXT   NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed     TEXT   NOT NULL, -- the secret, under the master key
    last_step  BIGINT NOT NULL, -- the time step of the last code that was accepted, which no code may repeat
    created_at BIGINT NOT NULL
);

CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash    TEXT NOT NULL,
    PRIMARY KEY (user_id, hash)
);

ALTER TABLE resources ADD COLUMN second_factor BIGINT NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN second_factor BIGINT NOT NULL DEFAULT 0;
CREATE INDEX groups_strict ON groups (id) WHERE second_factor = 1;
