package token

import (
	"errors"
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Revoke answers POST /oauth2/revoke (RFC 7009 §2.1). A refresh token takes its
// whole grant with it; an access token goes alone. A token that is unknown, or
// another client's, is answered like one that was revoked, and stays as it is.
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
	return web.Reply{Body: struct{}{}}, err // some clients parse every answer as JSON
}

func (e *Endpoint) revokeGrant(r *http.Request, c *oauth.Client, token string) error {
	known := false
	err := e.DB.Update(r.Context(), func(tx *store.Tx) error {
		g, _, _, err := e.grantOf(tx, token)
		if err != nil || g == nil || !g.IsOf(c) {
			return err
		}
		known = true
		if _, err := tx.RevokeGrant(g.ID, "client_revoked"); err != nil {
			return err
		}
		return tx.Conclude(audit.Revocation(c.ID, g.ID, "refresh_token"), nil)
	})
	if err != nil || known {
		return err
	}
	return e.Strangers.Note(r, audit.Revocation(c.ID, "", "unknown"))
}

func (e *Endpoint) revokeAccessToken(r *http.Request, c *oauth.Client, token string) error {
	claims, err := e.Keys.Verify(r.Context(), token)
	unknown := errors.Is(err, keys.ErrNotOurs)
	switch {
	case err != nil && !unknown:
		return err
	case unknown, claims.ClientID != c.ID, claims.Expiry <= e.DB.Now().Unix():
		return e.Strangers.Note(r, audit.Revocation(c.ID, "", "unknown"))
	}
	return e.DB.Update(r.Context(), func(tx *store.Tx) error {
		if err := tx.RevokeToken(claims.ID, time.Unix(claims.Expiry, 0)); err != nil {
			return err
		}
		return tx.Conclude(audit.Revocation(c.ID, claims.GrantID(), "access_token"), nil)
	})
}
