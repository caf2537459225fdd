-- Links and codes that prove who a person is, once: they were sent by mail, or an operator gave them to the person.

-- +goose Up

CREATE TABLE one_time (
    id          TEXT   NOT NULL PRIMARY KEY,
    purpose     TEXT   NOT NULL, -- "sign_in" or "reset"
    user_id     TEXT   NOT NULL, -- '': the address is nobody's, and nothing was sent
    email       TEXT   NOT NULL, -- to which it was sent; '': an operator has it
    token_hash  TEXT   NOT NULL UNIQUE,
    code_hash   TEXT   NOT NULL, -- '': there is no code
    tries       BIGINT NOT NULL, -- of the code
    browser     TEXT   NOT NULL, -- hash of the browser that asked; '': any may use it
    request     TEXT   NOT NULL, -- the sealed authorization request that the sign-in is for, or ''
    back        TEXT   NOT NULL, -- the path to which the sign-in leads, or ''
    keep_grants BIGINT NOT NULL, -- 1: a reset leaves the person's grants
    expires_at  BIGINT NOT NULL,
    spent_at    BIGINT
);
CREATE INDEX one_time_expiry ON one_time (expires_at);
CREATE INDEX one_time_user ON one_time (user_id) WHERE user_id <> '';
