-- The audit log is explored: what changed, filters that are quick in a log of millions, and counts by the hour.

-- +goose Up

-- What an operator's change made different: {"before":{…},"after":{…}}, or ''.
ALTER TABLE events ADD COLUMN changes TEXT NOT NULL DEFAULT '';

-- Most events are of token requests: those are found by time where an index would make each token dearer. Request ids
-- grow with time, as do the other keys for each action and resource, so that these indexes grow at few ends.
CREATE INDEX events_request ON events (request_id, at) WHERE request_id <> '' AND action <> 'token.request';
CREATE INDEX events_action ON events (action, at) WHERE action <> 'token.request';
CREATE INDEX events_resource ON events (resource, at) WHERE resource <> '';
CREATE INDEX events_address ON events (address, at) WHERE address <> '';
-- What a client does for itself is found by events_client.
CREATE INDEX events_actor ON events (actor_id, at) WHERE actor_id <> '' AND actor_id <> client_id;
CREATE INDEX events_refused ON events (outcome, at) WHERE outcome = 'refused';

-- How many events of a kind there were in an hour and in a day. The action "active" counts the clients that obtained
-- tokens in it.
CREATE TABLE tallies (
    span    BIGINT NOT NULL, -- microseconds: an hour, or a day
    begins  BIGINT NOT NULL,
    action  TEXT   NOT NULL,
    outcome TEXT   NOT NULL,
    reason  TEXT   NOT NULL,
    n       BIGINT NOT NULL,
    PRIMARY KEY (span, begins, action, outcome, reason)
);

-- The clients that obtained tokens in an hour or a day, until that is counted to its end.
CREATE TABLE active_clients (
    span      BIGINT NOT NULL,
    begins    BIGINT NOT NULL,
    client_id TEXT   NOT NULL,
    PRIMARY KEY (span, begins, client_id)
);

-- One row: tallies have the events up to this time.
CREATE TABLE tallied (
    until BIGINT NOT NULL
);
INSERT INTO tallied (until) VALUES (0);
