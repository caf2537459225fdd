-- Sealed events are sent to webhooks and to syslog.

-- +goose Up

CREATE TABLE deliveries (
    name     TEXT   NOT NULL PRIMARY KEY, -- in the configuration
    sent     BIGINT NOT NULL,             -- number of the record that is sent next
    failures BIGINT NOT NULL,             -- since it last succeeded
    next_at  BIGINT NOT NULL              -- nobody sends before
);

INSERT INTO schema_compatible (version, down_to) VALUES (42, 60);
