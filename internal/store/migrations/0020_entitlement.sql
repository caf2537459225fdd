-- MCP servers and single scopes are for the members of groups.

-- +goose Up

ALTER TABLE resources ADD COLUMN group_names TEXT NOT NULL DEFAULT 'null'; -- JSON; null is everybody
ALTER TABLE resources ADD COLUMN token_groups BIGINT NOT NULL DEFAULT 0;  -- 0 or 1
