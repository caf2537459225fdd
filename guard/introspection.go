package guard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/scope"
	"github.com/go-jose/go-jose/v4/json"
	"golang.org/x/sync/singleflight"
)

// remember is how long an answer of the issuer's introspection endpoint is used again.
const remember = time.Second

// introspections shares answers among requests with the same token.
type introspections struct {
	flight  singleflight.Group
	answers *recent[[32]byte, activeAnswer]
}

// activeAnswer is an answer of the issuer: token, or err if the token is not active.
type activeAnswer struct {
	token *Token
	err   error
	until time.Time
}

// stillActive is introspect, which it calls once for concurrent requests with the same token. It remembers the answer
// for a second, unless there was none.
func (g *Guard) stillActive(ctx context.Context, raw string, hash [32]byte, token *Token) (*Token, error) {
	if a, ok := g.active.answers.find(hash); ok && g.now().Before(a.until) {
		return a.token, a.err
	}
	select {
	case done := <-g.active.flight.DoChan(string(hash[:]), func() (any, error) {
		until := g.now().Add(remember)
		// The request that asks may end first; others wait for the answer too.
		active, err := g.introspect(context.WithoutCancel(ctx), raw, token)
		var e *Error
		if err == nil || errors.As(err, &e) && e.Status == http.StatusUnauthorized {
			g.active.answers.keep(hash, activeAnswer{active, err, until})
		}
		return active, err
	}):
		if done.Err != nil {
			return nil, done.Err
		}
		return done.Val.(*Token), nil
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	}
}

// introspect asks the issuer whether token, which is valid by itself, is still active (RFC 7662). It returns the token
// with the scopes that the issuer names, if it names any.
func (g *Guard) introspect(ctx context.Context, raw string, token *Token) (*Token, error) {
	var answer struct {
		Active *bool   `json:"active"`
		Scope  *string `json:"scope"`
	}
	body, err := g.issuer.introspect(ctx, g.credentials, raw)
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err == nil && answer.Active == nil {
		err = errors.New("guard: the introspection response does not say active")
	}
	switch {
	case err != nil: // the token may be active or not
		g.log.ErrorContext(ctx, "guard: introspection failed", "issuer", g.issuer.id, "error", err)
		return nil, unavailable(err)
	case !*answer.Active:
		return nil, invalidToken("The token is no longer active; it was revoked or has expired.")
	case answer.Scope == nil:
		return token, nil
	}
	scopes, err := scope.Parse(*answer.Scope)
	if err != nil {
		return nil, unavailable(err)
	}
	active := *token
	active.Scopes = scopes
	return &active, nil
}

// introspect sends the request of RFC 7662 §2.1 with client_secret_basic (RFC 6749 §2.3.1) and returns the answer.
func (i *issuer) introspect(ctx context.Context, as *Credentials, token string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	m, err := i.metadata.current(ctx)
	if err != nil {
		return nil, err
	}
	if m.Introspection == "" {
		return nil, fmt.Errorf("guard: %s has no introspection_endpoint", i.id)
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.Introspection, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(url.QueryEscape(as.ClientID), url.QueryEscape(as.ClientSecret))
	body, _, err := i.do(r)
	return body, err
}
