-- Accounts at identity providers with which people sign in here, and sign-ins with them that are over.

-- +goose Up

CREATE TABLE identities (
    id           TEXT   NOT NULL PRIMARY KEY,
    provider     TEXT   NOT NULL, -- its id in the configuration
    issuer       TEXT   NOT NULL, -- so that another server under the same id knows nobody
    subject      TEXT   NOT NULL,
    user_id      TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    email        TEXT   NOT NULL, -- as the provider has it; ''
    groups       TEXT   NOT NULL, -- JSON: names of the groups into which the last sign-in put the person; ''
    credential   TEXT   NOT NULL, -- sealed: with what the provider is asked about the person; ''
    created_at   BIGINT NOT NULL,
    used_at      BIGINT NOT NULL,
    confirmed_at BIGINT NOT NULL, -- when the provider last said that it knows the person
    UNIQUE (provider, issuer, subject)
);
CREATE INDEX identities_user ON identities (user_id, created_at);

CREATE TABLE spent_sign_ins (
    hash       TEXT   NOT NULL PRIMARY KEY, -- of the state
    user_id    TEXT   NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX spent_sign_ins_expiry ON spent_sign_ins (expires_at);

-- An address is verified if its owner used a link, code or invitation that was sent there.
ALTER TABLE users ADD COLUMN email_verified_at BIGINT;
