-- The tools of MCP servers, as an operator has reviewed them and as they were seen last.

-- +goose Up

CREATE TABLE resource_tools (
    resource_id TEXT   NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    name        TEXT   NOT NULL,
    hash        TEXT   NOT NULL, -- of the reviewed definition; '': it was never reviewed
    definition  TEXT   NOT NULL, -- JSON
    scopes      TEXT   NOT NULL, -- that a call needs
    risk        TEXT   NOT NULL,
    reviewed_at BIGINT,
    seen_hash   TEXT   NOT NULL, -- of the definition that was seen last; '': it was not there
    seen        TEXT   NOT NULL, -- JSON; '': as reviewed, or not there
    seen_at     BIGINT NOT NULL, -- since when
    PRIMARY KEY (resource_id, name)
);
