// Package assertion reads JWTs that others signed, and finds the keys that they are
// verified with (RFC 7521, RFC 7523).
package assertion

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // tells apart names by case, refuses a name given twice
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// maxLength bounds an assertion, in bytes.
const maxLength = 8 << 10

// Assertion is a JWT that somebody else signed (RFC 7521 §4): it was read, and is
// not believed before Verify.
type Assertion struct {
	jws    *jose.JSONWebSignature
	Alg    string // of its header
	KeyID  string // kid of its header; "": none
	Claims Claims
}

// Claims are the claims of an assertion (RFC 7523 §3). Times are
// seconds since 1970; nil is one that is not there.
type Claims struct {
	Issuer    string       `json:"iss"`
	Subject   string       `json:"sub"`
	Audience  jwt.Audience `json:"aud"`
	Expiry    *float64     `json:"exp"`
	NotBefore *float64     `json:"nbf"`
	IssuedAt  *float64     `json:"iat"`
	ID        string       `json:"jti"`
}

// Read parses an assertion: a JWT in compact form, signed by an
// algorithm that is served (RFC 7523 §3, RFC 8725 §3). Keys and places of keys in
// its header are not looked at. Its typ must be one of types, in whatever case; ""
// among them lets it have none. The error says what is wrong with it, as a phrase.
func Read(text string, types ...string) (*Assertion, error) {
	switch {
	case len(text) > maxLength:
		return nil, fmt.Errorf("it is longer than %d bytes", maxLength)
	case strings.ContainsAny(text, "\r\n"): // which decoders of base64 skip
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
		return nil, errors.New("it is not a signed JWT of three parts, each member of its header once")
	}
	header := jws.Signatures[0].Protected
	said := &Assertion{jws: jws, Alg: header.Algorithm, KeyID: header.KeyID}
	typ := header.ExtraHeaders[jose.HeaderType]
	_, crit := header.ExtraHeaders["crit"]
	_, b64 := header.ExtraHeaders["b64"]
	switch {
	case !isOneOf(typ, types):
		return nil, fmt.Errorf("its typ is not %s", strings.Join(slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == "" }), " or "))
	case crit || b64:
		return nil, errors.New("its header has crit or b64, of which no extension is supported")
	}
	encoded, _, _ := strings.Cut(text, ".")
	if raw, err := base64.RawURLEncoding.DecodeString(encoded); err != nil || HasTwin(raw, "alg", "kid", "typ", "crit", "b64") {
		return nil, errors.New("a member of its header is there in another case: names are compared byte for byte")
	}
	switch err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &said.Claims); {
	case errors.Is(err, jwt.ErrUnmarshalAudience):
		return nil, errors.New("its aud must be text")
	case err != nil:
		return nil, errors.New("its payload is not a JSON object with each claim once and of its type")
	}
	if HasTwin(jws.UnsafePayloadWithoutVerification(), "iss", "sub", "aud", "exp", "nbf", "iat", "jti") {
		return nil, errors.New("a claim is there in another case: names are compared byte for byte")
	}
	return said, nil
}

// HasTwin reports whether a JSON object has a member that is one of names but for its
// case, which many a parser takes for the same: Unicode folds U+017F to s and
// U+212A to k. What such an object says depends on who reads it.
func HasTwin(object []byte, names ...string) bool {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return false // whoever reads the object says so
	}
	for member := range members {
		if slices.ContainsFunc(names, func(name string) bool { return member != name && strings.EqualFold(member, name) }) {
			return true
		}
	}
	return false
}

// isOneOf reports whether a JWT of that typ, nil if it has none, is of one of types, and
// not an access token or another server's statement (RFC 8725 §3.11).
func isOneOf(typ any, types []string) bool {
	text, ok := typ.(string)
	if typ != nil && (!ok || text == "") {
		return false
	}
	return slices.ContainsFunc(types, func(t string) bool { return strings.EqualFold(t, text) })
}

// Verify checks the signature by one of keys. The error says what is wrong, as a
// phrase.
func (s *Assertion) Verify(keys []jose.JSONWebKey) error {
	if s.KeyID == "" && len(keys) > 1 {
		return errors.New("it has no kid, and its issuer has several keys")
	}
	i := slices.IndexFunc(keys, func(k jose.JSONWebKey) bool { return s.KeyID == "" || k.KeyID == s.KeyID })
	switch {
	case i < 0:
		return errors.New("no key of its issuer has its kid")
	case !fits(keys[i], s.Alg):
		return errors.New("its alg is not that of its issuer's key")
	}
	if _, err := s.jws.Verify(keys[i].Key); err != nil {
		return errors.New("its signature is wrong")
	}
	return nil
}
