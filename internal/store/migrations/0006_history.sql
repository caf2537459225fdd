-- No request pays for how much one person, client or resource has behind it, and no list for what it does not show.

-- +goose Up

-- What a person allowed before, the newest first.
CREATE INDEX grants_consent ON grants (user_id, client_id, resource_id, redirect_uri, created_at);

-- The lists, each in its order.
DROP INDEX grants_user;
DROP INDEX grants_client;
DROP INDEX grants_resource;
CREATE INDEX grants_user ON grants (user_id, created_at, id);
CREATE INDEX grants_client ON grants (client_id, created_at, id);
CREATE INDEX grants_resource ON grants (resource_id, created_at, id);

-- Grants whose code was never redeemed go as soon as it has expired.
CREATE INDEX grants_unredeemed ON grants (expires_at) WHERE last_used_at IS NULL;
