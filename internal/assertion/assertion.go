// Package assertion parses JWTs that others have signed, and loads the keys that verify them (RFC 7521, RFC 7523).
package assertion

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // distinguishes names by case and refuses duplicate names
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// maxLength is the maximum length of an assertion, in bytes.
const maxLength = 8 << 10

// Assertion is a parsed JWT that somebody else has signed (RFC 7521 §4). Its claims must not be trusted before Verify
// succeeds.
type Assertion struct {
	jws    *jose.JSONWebSignature
	Alg    string // of its header
	KeyID  string // kid of its header; "" if it has none
	Claims Claims
}

// Claims are the claims of an assertion (RFC 7523 §3). Times are in seconds since 1970, nil if the claim is missing.
type Claims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  jwt.Audience `json:"aud"`
	Expiry    *float64     `json:"exp"`
	NotBefore *float64     `json:"nbf"`
	IssuedAt  *float64     `json:"iat"`
	ID        string       `json:"jti"`
}

// Read parses an assertion: a JWT in compact form with one of oauth.SigningAlgs (RFC 7523 §3, RFC 8725 §3). It ignores
// keys, and URLs of keys, in the header. typ must be one of types, ignoring case; if "" is among them, typ may be
// missing. The error is a phrase that says what is wrong with the assertion.
func Read(text string, types ...string) (*Assertion, error) {
	switch {
	case len(text) > maxLength:
		return nil, fmt.Errorf("it is longer than %d bytes", maxLength)
	case strings.ContainsAny(text, "\r\n"): // because base64 decoders skip them
		return nil, errors.New("it has a line break")
	}
	var algs []jose.SignatureAlgorithm
	for _, alg := range oauth.SigningAlgs {
		algs = append(algs, jose.SignatureAlgorithm(alg))
	}
	jws, err := jose.ParseSignedCompact(text, algs)
	if unexpected := (*jose.ErrUnexpectedSignatureAlgorithm)(nil); errors.As(err, &unexpected) {
		return nil, fmt.Errorf("its alg is not one of %s", oauth.Listed(oauth.SigningAlgs))
	}
	if err != nil {
		return nil, errors.New("it is not a signed JWT of three parts without duplicate names in its header")
	}
	header := jws.Signatures[0].Protected
	said := &Assertion{jws: jws, Alg: header.Algorithm, KeyID: header.KeyID}
	typ := header.ExtraHeaders[jose.HeaderType]
	_, crit := header.ExtraHeaders["crit"]
	_, b64 := header.ExtraHeaders["b64"]
	switch {
	case !isOneOf(typ, types):
		return nil, fmt.Errorf("its typ is not %s",
			strings.Join(slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == "" }), " or "))
	case crit || b64:
		return nil, errors.New("its header has crit or b64, but no extensions are supported")
	}
	encoded, _, _ := strings.Cut(text, ".")
	raw, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || HasTwin(raw, "alg", "kid", "typ", "crit", "b64") {
		return nil, errors.New("a member of its header has a name in another case: names are compared byte for byte")
	}
	switch err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &said.Claims); {
	case errors.Is(err, jwt.ErrUnmarshalAudience):
		return nil, errors.New("its aud must be a string or a list of strings")
	case err != nil:
		return nil, errors.New("its payload is not a JSON object, or has a claim twice or of the wrong type")
	}
	if HasTwin(jws.UnsafePayloadWithoutVerification(), "iss", "sub", "aud", "exp", "nbf", "iat", "jti") {
		return nil, errors.New("a claim has a name in another case: names are compared byte for byte")
	}
	return said, nil
}

// HasTwin reports whether a JSON object has a member whose name differs from one of names only in case, by Unicode
// folding (U+017F folds to s, U+212A to k). Many parsers do not distinguish the two, so programs could read different
// values from such an object. HasTwin returns false if object is not a JSON object.
func HasTwin(object []byte, names ...string) bool {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return false // the code that parses the object reports it
	}
	for member := range members {
		twin := func(name string) bool { return member != name && strings.EqualFold(member, name) }
		if slices.ContainsFunc(names, twin) {
			return true
		}
	}
	return false
}

// isOneOf reports whether typ, nil if the JWT has none, is one of types. The check keeps a JWT of another kind, such as
// an access token, from being used as an assertion (RFC 8725 §3.11).
func isOneOf(typ any, types []string) bool {
	text, ok := typ.(string)
	if typ != nil && (!ok || text == "") {
		return false
	}
	return slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(t, text) })
}

// Verify checks the signature with the key among keys that has the assertion's kid. If the assertion has no kid, there
// must be exactly one key. The error is a phrase that says what is wrong with the assertion.
func (s *Assertion) Verify(keys []jose.JSONWebKey) error {
	if s.KeyID == "" && len(keys) > 1 {
		return errors.New("it has no kid, but its issuer has several keys")
	}
	i := slices.IndexFunc(keys, func(k jose.JSONWebKey) bool { return s.KeyID == "" || k.KeyID == s.KeyID })
	switch {
	case i < 0:
		return errors.New("no key of its issuer has its kid")
	case !fits(keys[i], s.Alg):
		return errors.New("its alg does not fit its issuer's key")
	}
	if _, err := s.jws.Verify(keys[i].Key); err != nil {
		return errors.New("its signature is wrong")
	}
	return nil
}
