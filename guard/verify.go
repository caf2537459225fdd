package guard

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/scope"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	maxToken = 16 << 10 // bytes

	// skew is how far the issuer's clock may be ahead. It does not apply to exp, because clients refresh.
	skew = time.Minute
)

// algorithms are the signature algorithms that are accepted. All are asymmetric, so that a public key of the issuer
// cannot be taken for a shared secret (RFC 8725 §3.1).
var algorithms = []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.PS256, jose.EdDSA}

// memory is a token that was verified before.
type memory struct {
	token *Token
	epoch int         // of the issuer's keys
	list  *statusList // that tells whether it was revoked; nil: none does
	index int64       // in list
}

// bearer returns the token in the Authorization header (RFC 6750 §2.1).
func bearer(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return "", errNoToken
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	switch {
	case len(values) > 1:
		return "", invalidRequest("There is more than one Authorization header.")
	case !strings.EqualFold(scheme, "Bearer"):
		return "", errNoToken
	case token == "":
		return "", invalidRequest("The Authorization header has no token after Bearer.")
	case len(token) > maxToken:
		return "", invalidRequest(fmt.Sprintf("The token is longer than %d bytes.", maxToken))
	case !b64token(token):
		return "", invalidRequest("The Authorization header is not Bearer, a space and one token.")
	}
	return token, nil
}

// b64token reports whether s has the syntax of a bearer token (RFC 6750 §2.1).
func b64token(s string) bool {
	body := strings.TrimRight(s, "=")
	for _, c := range []byte(body) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-._~+/", c) >= 0:
		default:
			return false
		}
	}
	return body != ""
}

// Verify returns the token in raw if it is valid for this server (RFC 9068 §4): a JWT of type at+jwt, signed by the
// issuer with ES256, RS256, PS256 or EdDSA, with this server as its only audience, not expired, and not bound to a key.
// A token that was verified is remembered by its SHA-256 until it expires or the issuer withdraws a key. Whether it was
// revoked is looked up every time: in the status list that it names, or with Config.Introspection at the issuer.
//
// The error is an [*Error] with Status 401 if the token is not valid, and 503 if the issuer cannot be asked.
func (g *Guard) Verify(ctx context.Context, raw string) (*Token, error) {
	hash := sha256.Sum256([]byte(raw))
	m, err := g.verified(ctx, raw, hash)
	switch {
	case err != nil:
		return nil, err
	case g.credentials != nil:
		return g.stillActive(ctx, raw, hash, m.token)
	case m.list != nil:
		if err := g.statuses.check(ctx, m.list, m.index, g.now()); err != nil {
			return nil, err
		}
	}
	return m.token, nil
}

func (g *Guard) verified(ctx context.Context, raw string, hash [32]byte) (memory, error) {
	if m, ok := g.remembered.find(hash); ok {
		keys, err := g.issuer.keys.current(ctx) // which also keeps them fresh
		switch {
		case err != nil:
			return memory{}, unavailable(err)
		case !g.now().Before(m.token.Expiry):
			return memory{}, invalidToken(expired)
		case m.epoch == keys.epoch:
			return m, nil
		}
	}

	c, err := parse(raw)
	if err != nil {
		return memory{}, invalidToken("The token is not a JWT of this issuer: " + err.Error() + ".")
	}
	if fault := g.firstFault(headerRules, c); fault != "" {
		return memory{}, invalidToken(fault)
	}
	epoch, err := g.checkSignature(ctx, c)
	if err != nil {
		return memory{}, err
	}
	if fault := g.firstFault(claimRules, c); fault != "" {
		return memory{}, invalidToken(fault)
	}
	m := memory{token: c.token(), epoch: epoch}
	if place, _ := g.statuses.reference(c.claims.Status); place.uri != "" && g.credentials == nil {
		m.list, m.index = g.statuses.list(place.uri), place.index
	}
	g.remembered.keep(hash, m)
	return m, nil
}

// candidate is a token that is not verified yet.
type candidate struct {
	raw       string
	rawHeader []byte
	payload   []byte
	header    struct {
		Algorithm string          `json:"alg"`
		Type      string          `json:"typ"`
		KeyID     string          `json:"kid"`
		Critical  json.RawMessage `json:"crit"`
		Key       json.RawMessage `json:"jwk"`
		KeyURL    json.RawMessage `json:"jku"`
		Chain     json.RawMessage `json:"x5c"`
		ChainURL  json.RawMessage `json:"x5u"`
	}
	claims struct {
		Issuer       string          `json:"iss"`
		Subject      string          `json:"sub"`
		Audience     jwt.Audience    `json:"aud"`
		ClientID     string          `json:"client_id"`
		Scope        string          `json:"scope"`
		ID           string          `json:"jti"`
		Expiry       *date           `json:"exp"`
		NotBefore    *date           `json:"nbf"`
		IssuedAt     *date           `json:"iat"`
		Confirmation json.RawMessage `json:"cnf"`
		Status       *statusClaim    `json:"status"`
	}
	scopes scope.Set
}

// date is a NumericDate (RFC 7519 §2).
type date struct{ time.Time }

// UnmarshalJSON reads a number of seconds, with or without a fraction, from 1970 to 9999.
func (d *date) UnmarshalJSON(data []byte) error {
	var seconds float64
	if err := json.Unmarshal(data, &seconds); err != nil {
		return err
	}
	if !(seconds >= 0 && seconds < 253402300800) {
		return errors.New("a date is out of range")
	}
	whole, part := math.Modf(seconds)
	d.Time = time.Unix(int64(whole), int64(part*1e9)).UTC()
	return nil
}

// parse decodes a JWS in compact form (RFC 7515 §7.1). Its errors repeat nothing of the token. With an error it returns
// what it could decode, or nil.
func parse(raw string) (*candidate, error) {
	parts := strings.Split(raw, ".")
	switch {
	case len(raw) > maxToken:
		return nil, errors.New("it is too long")
	case len(parts) != 3:
		return nil, errors.New("it does not have three parts")
	}
	c := &candidate{raw: raw}
	var headerErr, payloadErr error
	_, signatureErr := base64.RawURLEncoding.Strict().DecodeString(parts[2]) // it has one spelling
	c.rawHeader, headerErr = base64.RawURLEncoding.Strict().DecodeString(parts[0])
	c.payload, payloadErr = base64.RawURLEncoding.Strict().DecodeString(parts[1])
	switch {
	case headerErr != nil || json.Unmarshal(c.rawHeader, &c.header) != nil:
		return c, errors.New("its header cannot be read")
	case payloadErr != nil || json.Unmarshal(c.payload, &c.claims) != nil:
		return c, errors.New("its claims cannot be read")
	case signatureErr != nil:
		return c, errors.New("its signature cannot be read")
	}
	var err error
	if c.scopes, err = scope.Parse(c.claims.Scope); err != nil {
		return c, errors.New("its scope is not a list of scope names")
	}
	return c, nil
}

func (c *candidate) token() *Token {
	return &Token{
		Issuer:   c.claims.Issuer,
		Subject:  c.claims.Subject,
		ClientID: c.claims.ClientID,
		Audience: c.claims.Audience[0],
		Scopes:   c.scopes,
		ID:       c.claims.ID,
		IssuedAt: c.claims.IssuedAt.Time,
		Expiry:   c.claims.Expiry.Time,
		payload:  c.payload,
	}
}

// rule is a condition that a token must meet. fault returns a sentence for the client's developer that says what is
// wrong, or the empty string.
type rule struct {
	name  string // of the header parameter or claim
	fault func(*Guard, *candidate) string
}

const expired = "The token has expired; refresh it."

// headerRules are checked before the signature, because they decide how it is checked.
var headerRules = []rule{
	{"typ", func(_ *Guard, c *candidate) string { // RFC 9068 §4
		kind := strings.ToLower(c.header.Type)
		return unless(kind == "at+jwt" || kind == "application/at+jwt",
			"The token is not an access token: its typ is not at+jwt.")
	}},
	{"alg", func(_ *Guard, c *candidate) string { // RFC 8725 §3.1
		return unless(slices.Contains(algorithms, jose.SignatureAlgorithm(c.header.Algorithm)),
			"The token's alg is not ES256, RS256, PS256 or EdDSA.")
	}},
	{"crit", func(_ *Guard, c *candidate) string { // RFC 7515 §4.1.11
		return unless(c.header.Critical == nil, "The token has a crit header.")
	}},
	{"jwk, jku, x5c, x5u", func(_ *Guard, c *candidate) string { // RFC 8725 §3.10
		h := c.header
		return unless(h.Key == nil && h.KeyURL == nil && h.Chain == nil && h.ChainURL == nil,
			"The token brings its own key; only the issuer's count.")
	}},
}

// claimRules are checked on claims that the issuer signed (RFC 9068 §4).
var claimRules = []rule{
	{"iss", func(g *Guard, c *candidate) string {
		return unless(c.claims.Issuer == g.issuer.id, "The token is not from the issuer "+g.issuer.id+".")
	}},
	{"aud", func(g *Guard, c *candidate) string {
		// One audience only, because a token for several servers may have been stolen at another one (RFC 9700 §2.3).
		return unless(len(c.claims.Audience) == 1 && c.claims.Audience[0] == g.resource,
			"The token's audience is not "+g.resource+" alone.")
	}},
	{"exp", func(g *Guard, c *candidate) string {
		if c.claims.Expiry == nil {
			return "The token never expires: exp is missing."
		}
		return unless(g.now().Before(c.claims.Expiry.Time), expired)
	}},
	{"nbf", func(g *Guard, c *candidate) string {
		return unless(c.claims.NotBefore == nil || !g.now().Add(skew).Before(c.claims.NotBefore.Time),
			"The token is not valid yet.")
	}},
	{"iat", func(g *Guard, c *candidate) string {
		return unless(c.claims.IssuedAt != nil && !g.now().Add(skew).Before(c.claims.IssuedAt.Time),
			"The token was issued in the future, or iat is missing.")
	}},
	{"sub", func(_ *Guard, c *candidate) string {
		return unless(c.claims.Subject != "", "The token has no subject: sub is missing.")
	}},
	{"client_id", func(_ *Guard, c *candidate) string {
		return unless(c.claims.ClientID != "", "The token names no client: client_id is missing.")
	}},
	{"jti", func(_ *Guard, c *candidate) string {
		return unless(c.claims.ID != "", "The token has no jti.")
	}},
	{"cnf", func(_ *Guard, c *candidate) string { // RFC 9449 §7.2: a bound token is not a bearer token
		return unless(c.claims.Confirmation == nil, "The token is bound to a key; this server takes bearer tokens.")
	}},
	{"status", func(g *Guard, c *candidate) string { // Token Status List §8.3
		_, fault := g.statuses.reference(c.claims.Status)
		return fault
	}},
}

func unless(good bool, fault string) string {
	if good {
		return ""
	}
	return fault
}

func (g *Guard) firstFault(rules []rule, c *candidate) string {
	for _, r := range rules {
		if fault := r.fault(g, c); fault != "" {
			return fault
		}
	}
	return ""
}

// checkSignature verifies the signature with the issuer's key that the token names, and returns the epoch of that key.
func (g *Guard) checkSignature(ctx context.Context, c *candidate) (epoch int, err error) {
	key, epoch, err := g.issuer.key(ctx, c.header.KeyID)
	switch {
	case errors.Is(err, errUnknownKey):
		return 0, invalidToken("The token is signed with a key that the issuer does not have.")
	case err != nil:
		return 0, unavailable(err)
	case key.Algorithm != "" && key.Algorithm != c.header.Algorithm:
		return 0, invalidToken("The token's alg is not that of its key.")
	}
	signed, err := jose.ParseSignedCompact(c.raw, algorithms)
	if err != nil {
		return 0, invalidToken("The token's signature cannot be read.")
	}
	if _, err := signed.Verify(key.Key); err != nil {
		return 0, invalidToken("The token's signature is wrong.")
	}
	return epoch, nil
}
