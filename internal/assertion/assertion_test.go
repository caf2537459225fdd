package assertion_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/assertion"
)

// A JWT of one kind is not accepted as one of another (RFC 8725 §3.11).
func TestRead(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(typ any) string {
		options := new(jose.SignerOptions)
		if typ != nil {
			options = options.WithHeader("typ", typ)
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, options)
		if err != nil {
			t.Fatal(err)
		}
		jws, err := signer.Sign([]byte(`{"iss":"https://idp.example","sub":"ada"}`))
		if err != nil {
			t.Fatal(err)
		}
		text, err := jws.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	for _, test := range []struct {
		typ   any
		types []string
		want  string // in the error; "": it is read
	}{
		{"JWT", []string{"", "JWT"}, ""},
		{nil, []string{"", "JWT"}, ""},
		{"oauth-id-jag+jwt", []string{"oauth-id-jag+jwt"}, ""},
		{"OAuth-ID-JAG+JWT", []string{"oauth-id-jag+jwt"}, ""},
		{"at+jwt", []string{"", "JWT"}, "its typ is not JWT"},
		{"JWT", []string{"oauth-id-jag+jwt"}, "its typ is not oauth-id-jag+jwt"},
		{nil, []string{"oauth-id-jag+jwt"}, "its typ is not oauth-id-jag+jwt"},
		{"", []string{"", "JWT"}, "its typ is not JWT"},
		{5, []string{"", "JWT"}, "its typ is not JWT"},
	} {
		said, err := assertion.Read(signed(test.typ), test.types...)
		switch {
		case test.want == "" && (err != nil || said.Claims.Issuer != "https://idp.example"):
			t.Errorf("typ %v as %q: %v", test.typ, test.types, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("typ %v as %q: error %v, want %q", test.typ, test.types, err, test.want)
		}
		if err == nil {
			if err := said.Verify([]jose.JSONWebKey{{Key: key.Public()}}); err != nil {
				t.Error(err)
			}
		}
	}
}
