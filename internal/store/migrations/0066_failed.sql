-- What failed is found in a long log.

-- +goose Up

-- Only failures pay for it.
CREATE INDEX events_failed ON events (outcome, at) WHERE outcome = 'failed';

INSERT INTO schema_compatible (version, down_to) VALUES (66, 60);
