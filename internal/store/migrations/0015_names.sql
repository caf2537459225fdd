-- People who search type the beginning of a name.

-- +goose Up

-- key is a name, an address or an id in the form that all its spellings share. It is bytes, because which texts lie
-- between two others depends on the language of the database.
CREATE TABLE client_names (
    key       BYTEA NOT NULL,
    client_id TEXT  NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
    origin    TEXT  NOT NULL, -- of the client
    PRIMARY KEY (client_id, key)
);
CREATE INDEX client_names_key ON client_names (key, client_id);
CREATE INDEX client_names_of_origin ON client_names (origin, key, client_id);

CREATE TABLE user_names (
    key     BYTEA NOT NULL,
    user_id TEXT  NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, key)
);
CREATE INDEX user_names_key ON user_names (key, user_id);

CREATE TABLE resource_names (
    key         BYTEA NOT NULL,
    resource_id TEXT  NOT NULL REFERENCES resources (id) ON DELETE CASCADE,
    PRIMARY KEY (resource_id, key)
);
CREATE INDEX resource_names_key ON resource_names (key, resource_id);

CREATE TABLE group_names (
    key      BYTEA NOT NULL,
    group_id TEXT  NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, key)
);
CREATE INDEX group_names_key ON group_names (key, group_id);
