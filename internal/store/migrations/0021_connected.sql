-- People see what they allowed, and take it back.

-- +goose Up

-- What a person allowed and still holds, in the order in which it ends.
CREATE INDEX grants_connected ON grants (user_id, expires_at, id) WHERE revoked_at IS NULL AND last_used_at > 0;
-- What the person disconnected themselves, and can undo for a while.
CREATE INDEX grants_disconnected ON grants (user_id, revoked_at, id) WHERE revoked_reason = 'person';
