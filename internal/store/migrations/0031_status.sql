-- The status lists say which access tokens were revoked before they expired.

-- +goose Up

-- status_next has for each kind of list the index that is assigned next, counted through all lists of the kind.
CREATE TABLE status_next (
    kind TEXT   NOT NULL PRIMARY KEY, -- 'g': grants, 'm': machine clients
    next BIGINT NOT NULL
);

ALTER TABLE grants ADD COLUMN status_index BIGINT NOT NULL DEFAULT 0;
UPDATE grants SET status_index = numbered.n
    FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY created_at, id) - 1 AS n FROM grants) AS numbered
    WHERE numbered.id = grants.id;
INSERT INTO status_next (kind, next) SELECT 'g', COUNT(*) FROM grants;
INSERT INTO status_next (kind, next) VALUES ('m', 0);

-- A status block is a range of indexes for the tokens of one machine client at one resource. One process gives them
-- out.
CREATE TABLE status_blocks (
    first      BIGINT NOT NULL PRIMARY KEY,
    size       BIGINT NOT NULL,
    client_id  TEXT   NOT NULL,
    audience   TEXT   NOT NULL, -- identifier of the resource
    prefix     TEXT   NOT NULL, -- of the jti of the tokens; it names client and resource even if their names are reused
    expires_at BIGINT NOT NULL  -- when the last of the tokens has expired
);
CREATE INDEX status_blocks_client ON status_blocks (client_id, first);
CREATE INDEX status_blocks_audience ON status_blocks (audience, first);
CREATE INDEX status_blocks_expiry ON status_blocks (expires_at);

-- status_changes name what changed so that tokens may have ended, or count again. Every process judges them anew.
CREATE TABLE status_changes (
    version BIGINT NOT NULL, -- of the kind 'status'
    kind    TEXT   NOT NULL,
    subject TEXT   NOT NULL,
    at      BIGINT NOT NULL,
    PRIMARY KEY (version, kind, subject)
);
CREATE INDEX status_changes_at ON status_changes (at);
INSERT INTO versions (kind, version) VALUES ('status', 1);

-- Few grants end with a session, and few clients at a time.
CREATE INDEX grants_session ON grants (created_at, id) WHERE session_id <> '';
CREATE INDEX clients_expiry ON clients (expires_at) WHERE expires_at IS NOT NULL;
