-- What the server has of its certificate authority (RFC 8555): its account, its certificates, challenges under way. All
-- nodes share it.

-- +goose Up

CREATE TABLE acme_files (
    name        TEXT   PRIMARY KEY,
    content     TEXT   NOT NULL, -- sealed
    size        BIGINT NOT NULL, -- of the content before it was sealed
    modified_at BIGINT NOT NULL
);

-- Of several nodes, one at a time obtains a certificate.
CREATE TABLE acme_locks (
    name       TEXT   PRIMARY KEY,
    holder     TEXT   NOT NULL,
    expires_at BIGINT NOT NULL
);
