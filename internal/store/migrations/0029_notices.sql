-- What people are still to be told by mail: it is kept so that a letter outlives the process that was to send it, and
-- so that commands, which send none, leave it to a server.

-- +goose Up

CREATE TABLE notices (
    id         TEXT   NOT NULL PRIMARY KEY,
    event      TEXT   NOT NULL, -- JSON
    due_at     BIGINT NOT NULL, -- when it is tried, unless it is gone by then
    expires_at BIGINT NOT NULL
);
CREATE INDEX notices_due ON notices (due_at, id);
CREATE INDEX notices_expiry ON notices (expires_at);
