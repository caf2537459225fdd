package token

import (
	"errors"
	"net/http"
	"slices"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/web"
)

// Introspection is the introspection response (RFC 7662 §2.2). All fields but Active are empty if the token is not
// active, or not related to the client that asks.
type Introspection struct {
	Active    bool     `json:"active"`
	Scope     string   `json:"scope,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	TokenType string   `json:"token_type,omitempty"` // "Bearer"; absent for a refresh token
	Subject   string   `json:"sub,omitempty"`
	Audience  any      `json:"aud,omitempty"` // of the shape of the resource's tokens, as are Scopes
	Issuer    string   `json:"iss,omitempty"`
	Expiry    int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	ID        string   `json:"jti,omitempty"`
	Scopes    []string `json:"scopes,omitempty"`
}

// Introspect answers POST /oauth2/introspect (RFC 7662 §2.1). It answers the resource that the token is for, by any
// credentials of it, and the client that it was issued to; any other client is told that the token is not active. It
// reads the database each time, so that a revocation takes effect at once, and fails if the database does not answer.
func (e *Endpoint) Introspect(r *http.Request) (*Introspection, error) {
	form, err := web.Form(r)
	tooLong := errors.Is(err, web.ErrFormTooLong) // no active token is that long
	if err != nil && !tooLong {
		return nil, e.Strangers.Refuse(r, audit.Introspection("", ""), err)
	}
	asker, method, err := e.Clients.Authenticate(r, form)
	switch {
	case err != nil:
		return nil, e.Strangers.Refuse(r, audit.Introspection(client.Claimed(form), ""), err)
	case method == oauth.MethodNone:
		err = oauth.RefuseClient(false, "introspection is only for clients that authenticate: use a client secret "+
			"or private_key_jwt")
		return nil, e.Strangers.Refuse(r, audit.Introspection(asker.ID, ""), err)
	case tooLong:
		return &Introspection{}, e.Strangers.Note(r, audit.Introspection(asker.ID, "inactive"))
	case form.Get("token") == "":
		err = oauth.Refuse(oauth.InvalidRequest, "token is missing")
		return nil, e.Strangers.Refuse(r, audit.Introspection(asker.ID, ""), err)
	}
	answer, err := e.look(r, asker, form.Get("token"))
	if err != nil {
		return nil, err
	}
	if !answer.Active {
		return answer, e.Strangers.Note(r, audit.Introspection(asker.ID, "inactive"))
	}
	return answer, nil
}

func (e *Endpoint) look(r *http.Request, asker *oauth.Client, token string) (*Introspection, error) {
	if _, _, ok := oauth.ParseRefreshToken(token); ok {
		return e.lookAtRefreshToken(r, asker, token)
	}
	inactive := &Introspection{}
	claims, err := e.Keys.Verify(r.Context(), token)
	switch {
	case errors.Is(err, keys.ErrNotOurs):
		return inactive, nil
	case err != nil:
		return nil, err
	case claims.Issuer != e.Issuer, claims.Expiry <= e.DB.Now().Unix():
		return inactive, nil
	case claims.ClientID != asker.ID && !slices.Contains(asker.ResourceServers, claims.Audience):
		return inactive, nil
	}
	var standing *client.Standing
	err = e.DB.View(r.Context(), func(tx *store.Tx) error {
		standing, err = e.Clients.Directory.AccessToken(tx, claims)
		return err
	})
	switch {
	case oauth.IsRefusal(err):
		return inactive, nil
	case err != nil:
		return nil, err
	}
	shape := standing.Resource.TokenShape
	return &Introspection{
		Active:    true,
		Scope:     standing.Scope.String(),
		ClientID:  claims.ClientID,
		TokenType: "Bearer",
		Subject:   claims.Subject,
		Audience:  shape.Aud(claims.Audience),
		Issuer:    claims.Issuer,
		Expiry:    claims.Expiry,
		IssuedAt:  claims.IssuedAt,
		ID:        claims.ID,
		Scopes:    shape.Scopes(standing.Scope),
	}, nil
}

// lookAtRefreshToken introspects a refresh token. It answers only the client that the token was issued to. Only the
// newest generation is active.
func (e *Endpoint) lookAtRefreshToken(r *http.Request, asker *oauth.Client, token string) (*Introspection, error) {
	answer := &Introspection{}
	err := e.DB.View(r.Context(), func(tx *store.Tx) error {
		g, parties, generation, err := e.grantOf(tx, token)
		if err != nil || g == nil || !g.IsOf(asker) || !g.Live(tx.Now()) || g.Generation != generation {
			return err
		}
		standing, err := e.Clients.Directory.Standing(parties,
			client.Permission{Grant: g, GrantType: oauth.RefreshToken, Scope: g.Scope})
		switch {
		case oauth.IsRefusal(err):
			return nil
		case err != nil:
			return err
		}
		*answer = Introspection{Active: true, Scope: standing.Scope.String(), ClientID: g.ClientID, Subject: g.UserID,
			Issuer: e.Issuer, Expiry: g.ExpiresAt.Unix()}
		return nil
	})
	return answer, err
}

// grantOf returns the grant of an authentic refresh token with its parties, and the token's generation, which is newer
// than the grant's if the database went back to an earlier state. The grant is nil if the token was not issued here.
func (e *Endpoint) grantOf(tx *store.Tx, token string) (*oauth.Grant, *store.Parties, int64, error) {
	id, generation, ok := oauth.ParseRefreshToken(token)
	if !ok {
		return nil, nil, 0, nil
	}
	g, parties, err := tx.GrantParties(id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil, 0, nil
	case err != nil:
		return nil, nil, 0, err
	case !oauth.IsRefreshTokenOf(e.RefreshKey, g, generation, token):
		return nil, nil, 0, nil
	}
	return g, parties, generation, nil
}
