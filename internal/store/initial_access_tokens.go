package store

import (
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

const initialAccessColumns = "id, hash, name, uses, max_uses, created_at, expires_at, revoked_at"

// liveInitialAccess is the condition that a token may register a client at $2.
const liveInitialAccess = "hash = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2) AND " +
	"(max_uses = 0 OR uses < max_uses)"

// CreateInitialToken stores a new initial access token with all its fields, including CreatedAt. It returns ErrConflict
// if its id or hash is taken.
func (tx *Tx) CreateInitialToken(t *oauth.InitialAccessToken) error {
	return tx.create("INSERT INTO initial_access_tokens ("+initialAccessColumns+") VALUES ($1, $2, $3, $4, $5, $6, "+
		"$7, $8) ON CONFLICT DO NOTHING", args{
		t.ID, t.Hash, t.Name, t.Uses, t.MaxUses, t.CreatedAt.UnixMicro(), micros(t.ExpiresAt), micros(t.RevokedAt),
	})
}

// InitialToken returns the initial access token with the given id, or ErrNotFound.
func (tx *Tx) InitialToken(id string) (*oauth.InitialAccessToken, error) {
	found, err := all(tx, "SELECT "+initialAccessColumns+" FROM initial_access_tokens WHERE id = $1", args{id},
		scanInitialToken)
	return only(found, err)
}

// InitialTokens returns a page of the initial access tokens and the cursor of the next page, or "".
func (tx *Tx) InitialTokens(page Page) (tokens []*oauth.InitialAccessToken, next string, err error) {
	return listing[*oauth.InitialAccessToken]{query: "SELECT " + initialAccessColumns + " FROM initial_access_tokens",
		at: "created_at", id: "id", scan: scanInitialToken,
		key: func(t *oauth.InitialAccessToken) (time.Time, string) { return t.CreatedAt, t.ID },
	}.page(tx, new(where), page)
}

// LiveInitialToken returns the id of the initial access token with the given hash. It returns ErrNotFound if there is
// none, or if it is revoked, expired or used up.
func (tx *Tx) LiveInitialToken(hash string) (id string, err error) {
	err = tx.row("SELECT id FROM initial_access_tokens WHERE "+liveInitialAccess, args{hash, micros(tx.now)}, &id)
	return id, err
}

// SpendInitialToken takes one use of the initial access token with the given hash and returns its id. It returns
// ErrNotFound if there is none, or if it is revoked, expired or used up. If several callers ask for the last use at
// once, only one gets it.
func (tx *Tx) SpendInitialToken(hash string) (id string, err error) {
	err = tx.row("UPDATE initial_access_tokens SET uses = uses + 1 WHERE "+liveInitialAccess+" RETURNING id",
		args{hash, micros(tx.now)}, &id)
	return id, err
}

// RevokeInitialToken revokes an initial access token. It returns false if the token does not exist or was revoked
// before. The clients that it registered stay.
func (tx *Tx) RevokeInitialToken(id string) (bool, error) {
	n, err := tx.exec("UPDATE initial_access_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
		args{id, micros(tx.now)})
	return n > 0, err
}

func scanInitialToken(scan func(...any) error) (*oauth.InitialAccessToken, error) {
	t := new(oauth.InitialAccessToken)
	err := scan(&t.ID, &t.Hash, &t.Name, &t.Uses, &t.MaxUses, instant{&t.CreatedAt}, instant{&t.ExpiresAt},
		instant{&t.RevokedAt})
	return t, err
}
