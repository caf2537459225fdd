package admin

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// InitialAccessToken is a token with which clients register (RFC 7591 §3), as operators see it.
type InitialAccessToken struct {
	ID        string `json:"id"`
	Token     string `json:"token,omitempty"` // only if it was just made
	Name      string `json:"name"`
	State     string `json:"state,omitempty"` // "live", "revoked", "expired" or "used up"
	Uses      int    `json:"uses"`
	MaxUses   int    `json:"max_uses"` // 0 means any number
	CreatedAt Moment `json:"created_at"`
	ExpiresAt Moment `json:"expires_at"`
	RevokedAt Moment `json:"revoked_at"`
}

func viewInitialAccessToken(t *oauth.InitialAccessToken, now time.Time) InitialAccessToken {
	return InitialAccessToken{
		ID: t.ID, Name: t.Name, State: t.State(now), Uses: t.Uses, MaxUses: t.MaxUses,
		CreatedAt: Moment{t.CreatedAt}, ExpiresAt: Moment{t.ExpiresAt}, RevokedAt: Moment{t.RevokedAt},
	}
}

// CreateInitialAccessToken creates a token that registers up to uses clients and expires after ttl. 0 uses means any
// number of clients, and a ttl of 0 means that it does not expire. Only this view contains the token.
func (o *Operations) CreateInitialAccessToken(ctx context.Context, by Caller, name string, uses int,
	ttl time.Duration) (view InitialAccessToken, err error) {
	switch {
	case strings.TrimSpace(name) == "":
		return view, invalid("name", "{name} is empty; say what the token is for, such as the team that gets it")
	case uses < 0:
		return view, invalid("max_uses", "{max_uses} must not be negative; 0 means any number of clients")
	case ttl < 0:
		return view, invalid("ttl", "{ttl} must not be negative; 0 means that the token does not expire")
	}
	token := oauth.NewSecret(oauth.InitialTokenPrefix)
	made := &oauth.InitialAccessToken{ID: oauth.NewID("iat_"), Hash: oauth.Hash(token), Name: name, MaxUses: uses}
	err = o.change(ctx, by, InitialAccessTokens, "initial_access_token.create", &view,
		func(tx *store.Tx) (audit.Event, error) {
			made.CreatedAt = tx.Now()
			if ttl > 0 {
				made.ExpiresAt = tx.Now().Add(ttl)
			}
			view = viewInitialAccessToken(made, tx.Now())
			return audit.InitialAccessToken("create", made.ID, made.Name).
				Changed(nil, view), tx.CreateInitialToken(made)
		})
	view.Token = token
	return view, err
}

// InitialAccessTokens returns a page of the tokens and the cursor of the next page, "" if there is none.
func (o *Operations) InitialAccessTokens(ctx context.Context, by Caller,
	page store.Page) (views []InitialAccessToken, next string, err error) {
	err = o.look(ctx, by, InitialAccessTokens, func(tx *store.Tx) error {
		tokens, cursor, err := tx.InitialTokens(page)
		view := func(t *oauth.InitialAccessToken) InitialAccessToken { return viewInitialAccessToken(t, tx.Now()) }
		views, next, err = viewed(view, tokens, cursor, err)
		return err
	})
	return views, next, err
}

// InitialAccessToken returns the token with the given id, without its secret.
func (o *Operations) InitialAccessToken(ctx context.Context, by Caller,
	id string) (view InitialAccessToken, err error) {
	err = o.look(ctx, by, InitialAccessTokens, func(tx *store.Tx) error {
		t, err := findInitialToken(tx, id)
		if err == nil {
			view = viewInitialAccessToken(t, tx.Now())
		}
		return err
	})
	return view, err
}

func findInitialToken(tx *store.Tx, id string) (*oauth.InitialAccessToken, error) {
	t, err := tx.InitialToken(id)
	if errors.Is(err, store.ErrNotFound) {
		err = notFound(InitialAccessTokens, id, "there is no initial access token %s")
	}
	return t, err
}

// RevokeInitialAccessToken revokes a token. The clients that were registered with it stay. A token that was already
// revoked stays as it is.
func (o *Operations) RevokeInitialAccessToken(ctx context.Context, by Caller,
	id string) (view InitialAccessToken, err error) {
	err = o.change(ctx, by, InitialAccessTokens, "initial_access_token.revoke", &view,
		func(tx *store.Tx) (event audit.Event, err error) {
			t, err := findInitialToken(tx, id)
			if err == nil {
				err = o.matches(viewInitialAccessToken(t, tx.Now()))
			}
			if err != nil {
				return event, err
			}
			revoked, err := tx.RevokeInitialToken(id)
			if err != nil {
				return event, err
			}
			if t, err = tx.InitialToken(id); err != nil {
				return event, err
			}
			view = viewInitialAccessToken(t, tx.Now())
			if revoked {
				before := *t
				before.RevokedAt = time.Time{}
				event = audit.InitialAccessToken("revoke", t.ID, t.Name).
					Changed(viewInitialAccessToken(&before, tx.Now()), view)
			}
			return event, nil
		})
	return view, err
}
