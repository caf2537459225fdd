-- How the tokens of a resource tell their resource and their scopes.

-- +goose Up

ALTER TABLE resources ADD COLUMN token_shape TEXT NOT NULL DEFAULT 'standard'; -- or 'lists'
