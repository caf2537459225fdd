package client

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // tells apart names by case, refuses a name given twice
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// assertionType is the client_assertion_type of a JWT (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Bounds of a client assertion.
const (
	maxAssertion = 8 << 10     // bytes
	maxJTI       = 256         // bytes
	maxLife      = time.Hour   // of which exp may be ahead
	skew         = time.Minute // between the client's clock and ours
)

// assertion is a client assertion that was read, and is not believed yet.
type assertion struct {
	jws    *jose.JSONWebSignature
	alg    string
	kid    string // "": none
	claims assertionClaims
}

// assertionClaims are the claims of a client assertion (RFC 7523 §3). Times are
// seconds since 1970; nil is one that is not there.
type assertionClaims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  jwt.Audience `json:"aud"`
	Expiry    *float64     `json:"exp"`
	NotBefore *float64     `json:"nbf"`
	IssuedAt  *float64     `json:"iat"`
	ID        string       `json:"jti"`
}

// hasAssertion tells whether the client authenticates by an assertion, or tries to.
func hasAssertion(form url.Values) bool {
	return form.Has("client_assertion") || form.Has("client_assertion_type")
}

// byAssertion returns the client that proves by a signed assertion that it sent r
// (RFC 7523 §3). The assertion is used up when all else is right: nobody but its
// client can use it up.
func (a *Authenticator) byAssertion(r *http.Request, form url.Values) (*oauth.Client, error) {
	header, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	basic := strings.EqualFold(header, "Basic")
	switch {
	case r.Header.Get("Authorization") != "" || form.Has("client_secret"):
		return nil, oauth.RefuseClient(basic, "the client must authenticate in one way only: send no secret and no Authorization header beside client_assertion")
	case form.Get("client_assertion_type") != assertionType:
		return nil, oauth.RefuseClient(false, "client_assertion_type must be %s", assertionType)
	}
	said, err := readAssertion(form.Get("client_assertion"))
	if err != nil {
		return nil, err
	}
	if err := a.checkClaims(r, form, &said.claims); err != nil {
		return nil, err
	}
	asked := a.DB.Now()
	c, err := a.find(r, []string{said.claims.Issuer})
	if err != nil {
		return nil, err
	}
	switch {
	case c == nil:
		return nil, oauth.RefuseClient(false, "the client is not registered here, or no longer: register it again")
	case c.Disabled():
		return nil, oauth.RefuseClient(false, "the client is disabled")
	case !c.Accepts(oauth.MethodPrivateKeyJWT):
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
	return c, a.spend(r, said)
}

// checkClaims refuses what no client may say (RFC 7523 §3).
func (a *Authenticator) checkClaims(r *http.Request, form url.Values, claims *assertionClaims) error {
	now, slack := float64(a.DB.Now().UnixMicro())/1e6, skew.Seconds()
	switch {
	case claims.Issuer == "" || claims.Issuer != claims.Subject:
		return refuseAssertion("its iss and its sub must both be the client_id")
	case form.Has("client_id") && form.Get("client_id") != claims.Issuer:
		return refuseAssertion("its iss is not the client_id of the request")
	case len(claims.Audience) != 1 || !slices.Contains(a.audiences(r), claims.Audience[0]):
		return refuseAssertion("its aud must be %s alone", a.Issuer)
	case claims.Expiry == nil:
		return refuseAssertion("it has no exp")
	case *claims.Expiry+slack <= now:
		return refuseAssertion("it has expired")
	case *claims.Expiry-slack > now+maxLife.Seconds():
		return refuseAssertion("its exp is more than %d minutes ahead", int(maxLife.Minutes()))
	case claims.NotBefore != nil && *claims.NotBefore-slack > now:
		return refuseAssertion("its nbf is ahead of the clock of this server")
	case claims.IssuedAt != nil && *claims.IssuedAt-slack > now:
		return refuseAssertion("its iat is ahead of the clock of this server")
	case claims.ID == "" || len(claims.ID) > maxJTI:
		return refuseAssertion("it needs a jti of at most %d bytes", maxJTI)
	}
	return nil
}

func refuseAssertion(format string, args ...any) error {
	return oauth.RefuseClient(false, "the client assertion is refused: "+format, args...)
}

// readAssertion parses a client assertion: a JWT in compact form, signed by an
// algorithm that is served (RFC 7523 §3, RFC 8725 §3). Keys and places of keys in
// its header are not looked at.
func readAssertion(text string) (*assertion, error) {
	switch {
	case len(text) > maxAssertion:
		return nil, refuseAssertion("it is longer than %d bytes", maxAssertion)
	case strings.ContainsAny(text, "\r\n"): // which decoders of base64 skip
		return nil, refuseAssertion("it has a line break")
	}
	var algs []jose.SignatureAlgorithm
	for _, alg := range SigningAlgs {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	jws, err := jose.ParseSignedCompact(text, algs)
	if unexpected := (*jose.ErrUnexpectedSignatureAlgorithm)(nil); errors.As(err, &unexpected) {
		return nil, refuseAssertion("its alg is not one of %s", oauth.Listed(SigningAlgs))
	}
	if err != nil {
		return nil, refuseAssertion("it is not a signed JWT of three parts, each member of its header once")
	}
	header := jws.Signatures[0].Protected
	said := &assertion{jws: jws, alg: header.Algorithm, kid: header.KeyID}
	typ, named := header.ExtraHeaders[jose.HeaderType]
	_, crit := header.ExtraHeaders["crit"]
	_, b64 := header.ExtraHeaders["b64"]
	switch {
	case named && !isAssertionType(typ):
		return nil, refuseAssertion("its typ is neither JWT nor client-authentication+jwt")
	case crit || b64:
		return nil, refuseAssertion("its header has crit or b64, of which no extension is supported")
	}
	switch err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &said.claims); {
	case errors.Is(err, jwt.ErrUnmarshalAudience):
		return nil, refuseAssertion("its aud must be text")
	case err != nil:
		return nil, refuseAssertion("its payload is not a JSON object with each claim once and of its type")
	}
	if hasTwin(jws.UnsafePayloadWithoutVerification(), "iss", "sub", "aud", "exp", "nbf", "iat", "jti") {
		return nil, refuseAssertion("a claim is there in upper case: names are compared byte for byte")
	}
	return said, nil
}

// hasTwin tells whether a JSON object has a member that is one of names but for its
// case. To many a parser it is the same name, so what the object says depends on
// who reads it.
func hasTwin(object []byte, names ...string) bool {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return false // whoever reads the object says so
	}
	for name := range members {
		if folded := strings.ToLower(name); folded != name && slices.Contains(names, folded) {
			return true
		}
	}
	return false
}

// isAssertionType tells whether a JWT of that typ may be a client assertion, and
// not an access token or another server's statement (RFC 8725 §3.11).
func isAssertionType(typ any) bool {
	text, _ := typ.(string)
	return strings.EqualFold(text, "JWT") || strings.EqualFold(text, "client-authentication+jwt")
}

// audiences are the values of aud that mean this server: the issuer, with a slash
// at its end or without, the token endpoint, and the endpoint that was called
// (RFC 7523 §3).
func (a *Authenticator) audiences(r *http.Request) []string {
	values := []string{a.Issuer, a.Issuer + "/", a.Issuer + "/oauth2/token"}
	if called, err := url.Parse(a.Issuer); err == nil {
		called.Path = r.URL.Path
		values = append(values, called.String())
	}
	return values
}

// verify checks the signature by the client's keys. Keys that were fetched before
// asked are asked for anew when they will not do: the client may have new ones.
func (a *Authenticator) verify(r *http.Request, c *oauth.Client, said *assertion, asked time.Time) error {
	if c.SigningAlg != "" && said.alg != c.SigningAlg {
		return refuseAssertion("its alg is not %s, for which the client is registered", c.SigningAlg)
	}
	if c.JWKSURI == "" {
		keys, err := parseKeySet(c.JWKS)
		if err != nil {
			return oauth.RefuseClient(false, "the keys that the client registered cannot be used: %v", err)
		}
		return said.verify(keys)
	}
	keys, err := a.Keys.load(r.Context(), c.JWKSURI, time.Time{})
	if err != nil {
		return err
	}
	if said.verify(keys) == nil {
		return nil
	}
	if keys, err = a.Keys.load(r.Context(), c.JWKSURI, asked); err != nil {
		return err
	}
	return said.verify(keys)
}

// verify checks the signature by one of keys.
func (s *assertion) verify(keys []jose.JSONWebKey) error {
	if s.kid == "" && len(keys) > 1 {
		return refuseAssertion("it has no kid, and the client has several keys")
	}
	i := slices.IndexFunc(keys, func(k jose.JSONWebKey) bool { return s.kid == "" || k.KeyID == s.kid })
	switch {
	case i < 0:
		return refuseAssertion("no key of the client has its kid")
	case !fits(keys[i], s.alg):
		return refuseAssertion("its alg is not that of the client's key")
	}
	if _, err := s.jws.Verify(keys[i].Key); err != nil {
		return refuseAssertion("its signature is wrong")
	}
	return nil
}

// spend uses the assertion up, on every node and for as long as any of them would
// take it (RFC 7523 §3, jti).
func (a *Authenticator) spend(r *http.Request, said *assertion) error {
	if ok, after := a.Assertions.Allow(said.claims.Issuer); !ok {
		return oauth.RefuseForNow(after, "the client sends too many assertions: use each access token until it expires")
	}
	hash := oauth.Hash(said.claims.Issuer + " " + said.claims.ID)
	until := time.Unix(int64(*said.claims.Expiry), 0).Add(2 * skew) // a node's clock may be behind
	return a.DB.Update(r.Context(), func(tx *store.Tx) error {
		err := tx.SpendAssertion(hash, until)
		if errors.Is(err, store.ErrConflict) {
			return refuseAssertion("it was used before: sign a new one, with a jti of its own, for each request")
		}
		return err
	})
}
