-- A client_id can be given again: by its metadata document, or by an operator. What the client before it was allowed is
-- not allowed to the one that bears its name now: what it was is told apart by the incarnation, '' for those from
-- before.

-- +goose Up

ALTER TABLE clients ADD COLUMN incarnation TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN client_incarnation TEXT NOT NULL DEFAULT '';

-- rotated_from is the network address from which a grant was last refreshed.
ALTER TABLE grants ADD COLUMN rotated_from TEXT NOT NULL DEFAULT '';
