-- The clients that are bound to one MCP server, and the refusals of one client, person, grant, server or address, are
-- found without a look at all clients of operators, or at all events of that one.

-- +goose Up

CREATE TABLE client_resources (
    resource   TEXT   NOT NULL, -- identifier
    client_id  TEXT   NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    origin     TEXT   NOT NULL, -- of the client, as is created_at
    created_at BIGINT NOT NULL,
    PRIMARY KEY (client_id, resource)
);
CREATE INDEX client_resources_created ON client_resources (resource, created_at, client_id);
CREATE INDEX client_resources_of_origin ON client_resources (resource, origin, created_at, client_id);

-- Letter by letter, because the databases have no function in common that finds the spaces.
INSERT INTO client_resources (resource, client_id, origin, created_at)
WITH RECURSIVE spelled (client_id, origin, created_at, resource, rest) AS (
    SELECT id, origin, created_at, '', resources || ' ' FROM clients WHERE resources <> ''
    UNION ALL
    SELECT client_id, origin, created_at,
        CASE WHEN substr(rest, 1, 1) = ' ' THEN '' ELSE resource || substr(rest, 1, 1) END, substr(rest, 2)
    FROM spelled WHERE rest <> ''
)
SELECT DISTINCT resource, client_id, origin, created_at FROM spelled WHERE resource <> '' AND substr(rest, 1, 1) = ' ';

-- Only refusals pay for these.
CREATE INDEX events_refused_client ON events (client_id, outcome, at) WHERE outcome = 'refused' AND client_id <> '';
CREATE INDEX events_refused_user ON events (user_id, outcome, at) WHERE outcome = 'refused' AND user_id <> '';
CREATE INDEX events_refused_grant ON events (grant_id, outcome, at) WHERE outcome = 'refused' AND grant_id <> '';
CREATE INDEX events_refused_resource ON events (resource, outcome, at) WHERE outcome = 'refused' AND resource <> '';
CREATE INDEX events_refused_address ON events (address, outcome, at) WHERE outcome = 'refused' AND address <> '';

-- The newest checkpoint before a time.
DROP INDEX checkpoints_at;
CREATE INDEX checkpoints_at ON checkpoints (at, size);

INSERT INTO schema_compatible (version, down_to) VALUES (65, 60);
