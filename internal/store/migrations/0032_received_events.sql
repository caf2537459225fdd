-- Guards and gateways report tool calls, and may send a report again if its answer is lost.

-- +goose Up

CREATE TABLE received_events (
    source TEXT   NOT NULL, -- identifier of the resource
    id     TEXT   NOT NULL, -- that the reporter gave the event
    at     BIGINT NOT NULL,
    PRIMARY KEY (source, id)
);
CREATE INDEX received_events_at ON received_events (at);
