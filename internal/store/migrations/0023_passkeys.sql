-- Passkeys with which people sign in (WebAuthn).

-- +goose Up

CREATE TABLE passkeys (
    id              TEXT   NOT NULL PRIMARY KEY,
    user_id         TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_id   TEXT   NOT NULL UNIQUE, -- base64url
    public_key      TEXT   NOT NULL, -- a COSE_Key, base64url
    sign_count      BIGINT NOT NULL,
    backup_eligible BIGINT NOT NULL,
    backed_up       BIGINT NOT NULL,
    transports      TEXT   NOT NULL, -- separated by spaces
    aaguid          TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    used_at         BIGINT -- NULL: never
);
CREATE INDEX passkeys_user ON passkeys (user_id, created_at, id);
