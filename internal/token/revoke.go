package token

import (
	"errors"
	"net/http"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Revoke answers POST /oauth2/revoke (RFC 7009 §2.1). For a refresh token it revokes the whole grant; for an access
// token, only that token. It answers a token that is unknown or belongs to another client as if it had revoked it, and
// changes nothing.
func (e *Endpoint) Revoke(r *http.Request) (web.Reply, error) {
	form, err := web.Form(r)
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.Revocation("", "", ""), err)
	}
	c, _, err := e.Clients.Authenticate(r, form)
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.Revocation(client.Claimed(form), "", ""), err)
	}
	token := form.Get("token")
	switch hint := form.Get("token_type_hint"); {
	case token == "":
		err = oauth.Refuse(oauth.InvalidRequest, "token is missing")
	case hint != "" && hint != "access_token" && hint != "refresh_token":
		err = oauth.Refuse(oauth.UnsupportedTokenType, "only access tokens and refresh tokens can be revoked")
	}
	if err != nil {
		return web.Reply{}, e.Strangers.Refuse(r, audit.Revocation(c.ID, "", ""), err)
	}
	if _, _, ok := oauth.ParseRefreshToken(token); ok {
		err = e.revokeGrant(r, c, token)
	} else {
		err = e.revokeAccessToken(r, c, token)
	}
	return web.Reply{Body: struct{}{}}, err // an empty object, because some clients parse every response as JSON
}

// revokeGrant revokes the grant of a refresh token if it belongs to c.
func (e *Endpoint) revokeGrant(r *http.Request, c *oauth.Client, token string) error {
	return e.revoke(r, c, func(tx *store.Tx) (event audit.Event, first bool, err error) {
		g, _, _, err := e.grantOf(tx, token)
		if err != nil || g == nil || !g.IsOf(c) {
			return event, false, err
		}
		first, err = tx.RevokeGrant(g.ID, "client_revoked")
		return audit.Revocation(c.ID, g.ID, "refresh_token"), first, err
	})
}

// revokeAccessToken revokes one access token if it was issued to c.
func (e *Endpoint) revokeAccessToken(r *http.Request, c *oauth.Client, token string) error {
	claims, err := e.Keys.Verify(r.Context(), token)
	if err != nil && !errors.Is(err, keys.ErrNotOurs) {
		return err
	}
	return e.revoke(r, c, func(tx *store.Tx) (event audit.Event, first bool, _ error) {
		if err != nil || claims.Expiry <= tx.Now().Unix() {
			return event, false, nil
		}
		if owns, err := owns(tx, c, claims); err != nil || !owns {
			return event, false, err
		}
		first, err := tx.RevokeToken(claims)
		return audit.Revocation(c.ID, claims.GrantID(), "access_token"), first, err
	})
}

// owns reports whether an access token was issued to c. One issued to an earlier client with the same id was not.
func owns(tx *store.Tx, c *oauth.Client, claims *oauth.Claims) (bool, error) {
	if claims.ClientID != c.ID {
		return false, nil
	}
	if id := claims.GrantID(); id != "" {
		g, err := tx.Grant(id)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		return err == nil && g.IsOf(c), err
	}
	r, err := tx.Resource(claims.Audience)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && claims.IsOwnToken(c, r), err
}

// revoke runs end in a transaction and records the event that it returns, if this is the first revocation of the token.
// A repeated one changes nothing, and is not recorded: otherwise a client could fill the audit log. A zero Event means
// that the token is unknown.
func (e *Endpoint) revoke(r *http.Request, c *oauth.Client,
	end func(*store.Tx) (event audit.Event, first bool, err error)) error {
	known := false
	err := e.DB.Update(r.Context(), func(tx *store.Tx) error {
		event, first, err := end(tx)
		if known = event.Action != ""; err != nil || !first {
			return err
		}
		return tx.Conclude(event, nil)
	})
	if err != nil || known {
		return err
	}
	return e.Strangers.Note(r, audit.Revocation(c.ID, "", "unknown"))
}
