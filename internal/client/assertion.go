package client

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/assertion"
	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// assertionType is the client_assertion_type of a JWT (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Bounds of a client assertion.
const (
	maxJTI  = 256         // bytes
	maxLife = time.Hour   // until exp
	skew    = time.Minute // tolerated between the client's clock and ours
)

// hasAssertion reports whether the request has a client assertion, complete or not.
func hasAssertion(form url.Values) bool {
	return form.Has("client_assertion") || form.Has("client_assertion_type")
}

// byAssertion authenticates the client by the signed assertion of r and returns it (RFC 7523 §3). The assertion is
// spent after all other checks have passed, so that only its client can spend it.
func (a *Authenticator) byAssertion(r *http.Request, form url.Values) (*oauth.Client, error) {
	header, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	basic := strings.EqualFold(header, "Basic")
	switch {
	case r.Header.Get("Authorization") != "" || form.Has("client_secret"):
		return nil, oauth.RefuseClient(basic, "the client must use one authentication method only: do not send a "+
			"secret or an Authorization header together with client_assertion")
	case form.Get("client_assertion_type") != assertionType:
		return nil, oauth.RefuseClient(false, "client_assertion_type must be %s", assertionType)
	}
	said, err := readAssertion(form)
	if err != nil {
		return nil, refuseAssertion("%v", err)
	}
	if err := a.checkClaims(r, form, &said.Claims); err != nil {
		return nil, err
	}
	asked := a.DB.Now()
	c, err := a.Directory.Known(a.find(r, []string{said.Claims.Issuer}))
	if err != nil {
		return nil, err
	}
	if !c.Accepts(oauth.MethodPrivateKeyJWT) {
		return nil, oauth.RefuseClient(false, "the client is registered for %s, not for private_key_jwt", c.Method)
	}
	if err := a.verify(r, c, said, asked); err != nil {
		again, findErr := a.Directory.FindAgain(r, c, "", asked) // its document may have changed
		if findErr != nil || again == c {
			return nil, err
		}
		if err := a.verify(r, again, said, asked); err != nil {
			return nil, err
		}
		c = again
	}
	return c, a.spend(r, c, said)
}

// readAssertion parses the client assertion of a request. It does not verify the signature.
func readAssertion(form url.Values) (*assertion.Assertion, error) {
	return assertion.Read(form.Get("client_assertion"), "", "JWT", "client-authentication+jwt")
}

// errNoKeySet is the refusal for every cause, because different answers would tell a stranger which addresses are
// reachable from this server.
var errNoKeySet = oauth.RefuseClient(false, "this server could not fetch the client's jwks_uri: it must be a public "+
	"https URL that answers with status 200 and JSON, without a redirect")

// keySet returns the keys at the client's jwks_uri. If they were fetched before newerThan, it fetches them again and
// falls back on the old ones if that fails.
func (a *Authenticator) keySet(r *http.Request, c *oauth.Client, newerThan time.Time) ([]jose.JSONWebKey, error) {
	take := func() (func(), error) { return a.Fetches.Take(r, "") } // the client is not authenticated yet
	keys, err := a.Keys.Load(r.Context(), c.JWKSURI, newerThan, take)
	switch {
	case err == nil, oauth.IsRefusal(err), r.Context().Err() != nil:
		return keys, err
	case errors.Is(err, fetch.ErrNotAllowed), errors.Is(err, fetch.ErrUnavailable):
		return nil, oauth.Because(errNoKeySet, err)
	}
	return nil, oauth.RefuseClient(false, "the keys at the client's jwks_uri cannot be used: %v", err)
}

// checkClaims refuses an assertion whose claims are invalid for every client (RFC 7523 §3).
func (a *Authenticator) checkClaims(r *http.Request, form url.Values, claims *assertion.Claims) error {
	now, slack := float64(a.DB.Now().UnixMicro())/1e6, skew.Seconds()
	switch {
	case claims.Issuer == "" || claims.Issuer != claims.Subject:
		return refuseAssertion("its iss and its sub must both be the client_id")
	case form.Has("client_id") && form.Get("client_id") != claims.Issuer:
		return refuseAssertion("its iss is not the client_id of the request")
	case len(claims.Audience) != 1 || !slices.Contains(a.audiences(r), claims.Audience[0]):
		return refuseAssertion("its aud must be %s and nothing else", a.Issuer)
	case claims.Expiry == nil:
		return refuseAssertion("it has no exp")
	case *claims.Expiry+slack <= now:
		return refuseAssertion("it has expired")
	case *claims.Expiry-slack > now+maxLife.Seconds():
		return refuseAssertion("its exp is more than %d minutes in the future", int(maxLife.Minutes()))
	case claims.NotBefore != nil && *claims.NotBefore-slack > now:
		return refuseAssertion("its nbf is in the future by the clock of this server")
	case claims.IssuedAt != nil && *claims.IssuedAt-slack > now:
		return refuseAssertion("its iat is in the future by the clock of this server")
	case claims.ID == "" || len(claims.ID) > maxJTI:
		return refuseAssertion("it needs a jti of at most %d bytes", maxJTI)
	}
	return nil
}

func refuseAssertion(format string, args ...any) error {
	return oauth.RefuseClient(false, "the client assertion is refused: "+format, args...)
}

// audiences returns the accepted values of aud: the issuer, with or without a slash at its end, the token endpoint, and
// the endpoint that was called (RFC 7523 §3).
func (a *Authenticator) audiences(r *http.Request) []string {
	values := []string{a.Issuer, a.Issuer + "/", a.Issuer + "/oauth2/token"}
	if called, err := url.Parse(a.Issuer); err == nil {
		called.Path = r.URL.Path
		values = append(values, called.String())
	}
	return values
}

// verify checks the signature with the client's keys. If none of them matches and they were fetched before asked, it
// fetches them again, because the client may have new ones.
func (a *Authenticator) verify(r *http.Request, c *oauth.Client, said *assertion.Assertion, asked time.Time) error {
	if c.SigningAlg != "" && said.Alg != c.SigningAlg {
		return refuseAssertion("its alg is not %s, for which the client is registered", c.SigningAlg)
	}
	if c.JWKSURI == "" {
		keys, err := assertion.ParseKeySet(c.JWKS)
		if err != nil {
			return oauth.RefuseClient(false, "the keys that the client registered cannot be used: %v", err)
		}
		return verified(said, keys)
	}
	keys, err := a.keySet(r, c, time.Time{})
	if err != nil {
		return err
	}
	if said.Verify(keys) == nil {
		return nil
	}
	if keys, err = a.keySet(r, c, asked); err != nil {
		return err
	}
	return verified(said, keys)
}

// verified is said.Verify with its error as a refusal.
func verified(said *assertion.Assertion, keys []jose.JSONWebKey) error {
	if err := said.Verify(keys); err != nil {
		return refuseAssertion("%v", err)
	}
	return nil
}

// spend marks the assertion as used, on every node and for as long as any node would accept it (RFC 7523 §3, jti).
func (a *Authenticator) spend(r *http.Request, c *oauth.Client, said *assertion.Assertion) error {
	if ok, after := a.Assertions.Allow(c.ID); !ok {
		return oauth.RefuseForNow(after, "the client sends too many assertions: use each access token until it expires")
	}
	if c.UsedAt.IsZero() && !c.Approved() { // a stranger can register any number of such clients
		if ok, after := a.Unused.Admit(r); !ok {
			return oauth.RefuseForNow(after, "too many assertions of clients that nobody has used yet: try again later")
		}
	}
	hash := oauth.Hash(said.Claims.Issuer + " " + said.Claims.ID)
	until := time.Unix(int64(*said.Claims.Expiry), 0).Add(2 * skew) // a node's clock may be behind
	return a.DB.Update(r.Context(), func(tx *store.Tx) error {
		err := tx.SpendAssertion(hash, until)
		if errors.Is(err, store.ErrConflict) {
			return refuseAssertion("it was used before: sign a new one, with a new jti, for each request")
		}
		return err
	})
}
