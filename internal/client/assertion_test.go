package client_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

const weather = "mcp:tools:weather"

// machine is an edit for Client: the client uses client_credentials.
func machine(c *oauth.Client) {
	c.GrantTypes, c.RedirectURIs, c.ResponseTypes = []oauth.GrantType{oauth.ClientCredentials}, nil, nil
}

// signed returns an agent whose client authenticates with private_key_jwt, by key.
func signed(t testing.TB, s *servertest.Server, key *servertest.Key, edits ...func(*oauth.Client)) *servertest.Agent {
	t.Helper()
	edits = append([]func(*oauth.Client){machine, servertest.Signed(servertest.KeySet(t, key))}, edits...)
	a := s.Agent(t, s.Client(edits...))
	a.Key = key
	return a
}

// edits of an assertion.
func claim(name string, value any) func(*servertest.Assertion) {
	return func(a *servertest.Assertion) { a.Claims[name] = value }
}
func noClaim(name string) func(*servertest.Assertion) {
	return func(a *servertest.Assertion) { delete(a.Claims, name) }
}
func header(name string, value any) func(*servertest.Assertion) {
	return func(a *servertest.Assertion) { a.Header[name] = value }
}
func signature(sign func(input []byte) []byte) func(*servertest.Assertion) {
	return func(a *servertest.Assertion) { a.Sign = sign }
}

func fixed(sig []byte) func(*servertest.Assertion) {
	return signature(func([]byte) []byte { return sig })
}

// ask sends one assertion with a request for a token.
func ask(a *servertest.Agent, assertion string, tweaks ...servertest.Tweak) *servertest.Reply {
	return a.Post("/oauth2/token", url.Values{"grant_type": {"client_credentials"}},
		append([]servertest.Tweak{servertest.Assert(assertion)}, tweaks...)...)
}

// refused checks that authentication failed, and that the audit event has the reason.
func refused(t *testing.T, s *servertest.Server, reply *servertest.Reply, why string) {
	t.Helper()
	reply.Refused(http.StatusUnauthorized, "invalid_client")
	if got := reply.Header.Get("WWW-Authenticate"); got != "" {
		t.Errorf("WWW-Authenticate is %q for a client that did not try Basic", got)
	}
	said := reply.Text("error_description")
	if !strings.Contains(said, why) {
		t.Errorf("the description is %q, want one that contains %q", said, why)
	}
	event := s.Events("token.request")[0]
	if event.Outcome != audit.Refused || event.Description != said || event.Reason != "invalid_client" {
		t.Errorf("the audit log has %+v", event)
	}
}

func TestAssertion(t *testing.T) {
	s := servertest.StartWeather(t)
	for _, alg := range oauth.SigningAlgs {
		t.Run(alg, func(t *testing.T) {
			for _, kid := range []string{"", "2030-01"} {
				a := signed(t, s, servertest.NewKey(t, kid, alg))
				if got := a.ClientCredentials().Tokens().Scope; got != weather {
					t.Errorf("scope is %q, want %q", got, weather)
				}
			}
		})
	}
	key := servertest.NewKey(t, "k1", "ES256")
	a := signed(t, s, key)
	now := s.Clock.Now().Unix()
	for _, test := range []struct {
		name  string
		edits []func(*servertest.Assertion)
	}{
		{"aud is the issuer with a slash", []func(*servertest.Assertion){claim("aud", s.URL+"/")}},
		{"aud is the token endpoint", []func(*servertest.Assertion){claim("aud", s.URL+"/oauth2/token")}},
		{"aud is a list of one", []func(*servertest.Assertion){claim("aud", []string{s.URL})}},
		{"exp an hour ahead", []func(*servertest.Assertion){claim("exp", now+3600)}},
		{"exp a fraction", []func(*servertest.Assertion){claim("exp", float64(now)+0.5)}},
		{"exp just gone, within the skew", []func(*servertest.Assertion){claim("exp", now-59)}},
		{"iat and nbf within the skew", []func(*servertest.Assertion){claim("iat", now+60), claim("nbf", now+60)}},
		{"no iat", []func(*servertest.Assertion){noClaim("iat")}},
		{"typ client-authentication+jwt", []func(*servertest.Assertion){header("typ", "client-authentication+jwt")}},
		{"no typ", []func(*servertest.Assertion){func(a *servertest.Assertion) { delete(a.Header, "typ") }}},
		{"no kid, for the client has one key",
			[]func(*servertest.Assertion){func(a *servertest.Assertion) { delete(a.Header, "kid") }}},
		{"other claims", []func(*servertest.Assertion){claim("client_id", a.ClientID), claim("scope", "admin")}},
		{"CA-13 another key in the header",
			[]func(*servertest.Assertion){header("jwk", jwk(t, servertest.NewKey(t, "", "ES256")))}},
		{"CA-17 high s",
			[]func(*servertest.Assertion){signature(func(input []byte) []byte { return highS(key.Sign(t, input)) })}},
	} {
		t.Run("accepted: "+test.name, func(t *testing.T) {
			ask(s.Agent(t, nil), a.Assertion(test.edits...)).Tokens()
		})
	}
	t.Run("client_id beside it", func(t *testing.T) {
		ask(a, a.Assertion(), servertest.With("client_id", a.ClientID)).Tokens()
		refused(t, s, ask(a, a.Assertion(), servertest.With("client_id", s.Client().ID)), "client_id of the request")
	})
	t.Run("the event names the client", func(t *testing.T) {
		refused(t, s, ask(a, a.Assertion(claim("exp", 1))), "expired")
		if event := s.Events("token.request")[0]; event.ClientID != a.ClientID {
			t.Errorf("client_id is %q, want %q", event.ClientID, a.ClientID)
		}
	})
}

func jwk(t testing.TB, k *servertest.Key) json.RawMessage {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKey{Key: k.Private.Public(), KeyID: k.ID})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// highS returns the other valid ECDSA signature for the same text.
func highS(sig []byte) []byte {
	order := elliptic.P256().Params().N
	s := new(big.Int).SetBytes(sig[32:])
	if s.Cmp(new(big.Int).Rsh(order, 1)) < 0 {
		s.Sub(order, s)
	}
	return append(bytes.Clone(sig[:32]), s.FillBytes(make([]byte, 32))...)
}

func TestAssertionAttacks(t *testing.T) {
	canary := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the server fetched %s", r.URL)
	}))
	t.Cleanup(canary.Close)
	s := servertest.StartWeather(t, loopback)
	ec, edwards, rsaKey := servertest.NewKey(t, "ec", "ES256"), servertest.NewKey(t, "ed",
		"EdDSA"), servertest.NewKey(t, "rsa", "RS256")
	agents := map[string]*servertest.Agent{"ES256": signed(t, s, ec), "EdDSA": signed(t, s, edwards),
		"RS256": signed(t, s, rsaKey)}
	a := agents["ES256"]
	now := s.Clock.Now().Unix()

	type edit = func(*servertest.Assertion)
	type attack struct {
		name  string
		edits []edit
		why   string
	}
	attacks := []attack{
		{"CA-01 alg none", []edit{header("alg", "none"), fixed(nil)}, "alg"},
		{"CA-01 alg None", []edit{header("alg", "None"), fixed(nil)}, "alg"},
		{"CA-01 alg nOnE", []edit{header("alg", "nOnE"), fixed(nil)}, "alg"},
		{"CA-01 alg none with the signature kept",
			[]edit{header("alg", "none"), signature(func(input []byte) []byte { return ec.Sign(t, input) })}, "alg"},
		{"CA-01 empty signature", []edit{fixed(nil)}, "signature"},
		{"CA-01 no alg", []edit{func(a *servertest.Assertion) { delete(a.Header, "alg") }}, "alg"},
		{"CA-01 alg is a list", []edit{header("alg", []string{"ES256"})}, ""},
		{"CA-04 an alg that is not served", []edit{header("alg", "ES512")}, "alg"},
		{"CA-04 alg of another kind of key", []edit{header("alg", "RS256")}, "alg"},

		{"CA-05 aud another server", []edit{claim("aud", "https://other.example.com")}, "aud"},
		{"CA-05 aud a list of two", []edit{claim("aud", []string{s.URL, "https://other.example.com"})}, "aud"},
		{"CA-05 aud the issuer twice", []edit{claim("aud", []string{s.URL, s.URL})}, "aud"},
		{"CA-05 aud an empty list", []edit{claim("aud", []string{})}, "aud"},
		{"CA-05 aud a number", []edit{claim("aud", 1)}, ""},
		{"CA-05 aud an object", []edit{claim("aud", map[string]any{"iss": s.URL})}, ""},
		{"CA-05 aud a list of lists", []edit{claim("aud", []any{[]string{s.URL}})}, ""},
		{"CA-05 aud null", []edit{claim("aud", nil)}, "aud"},
		{"CA-05 no aud", []edit{noClaim("aud")}, "aud"},
		{"CA-05 aud a prefix of the issuer", []edit{claim("aud", s.URL[:len(s.URL)-1])}, "aud"},
		{"CA-05 aud the issuer and more", []edit{claim("aud", s.URL+".evil.example")}, "aud"},
		{"CA-05 aud the issuer in capitals", []edit{claim("aud", strings.ToUpper(s.URL))}, "aud"},
		{"CA-05 aud another endpoint", []edit{claim("aud", s.URL+"/oauth2/introspect")}, "aud"},
		{"CA-05 aud a resource", []edit{claim("aud", servertest.MCP)}, "aud"},

		{"CA-06 iss is not sub", []edit{claim("iss", "https://other.example.com")}, "iss"},
		{"CA-06 sub another client", []edit{claim("sub", agents["EdDSA"].ClientID)}, "iss"},
		{"CA-06 both another client",
			[]edit{claim("iss", agents["EdDSA"].ClientID), claim("sub", agents["EdDSA"].ClientID)}, "kid"},
		{"CA-06 both nobody", []edit{claim("iss", "mcp_nobody"), claim("sub", "mcp_nobody")}, "not registered"},
		{"CA-06 no iss", []edit{noClaim("iss")}, "iss"},
		{"CA-06 no sub", []edit{noClaim("sub")}, "sub"},
		{"CA-06 both empty", []edit{claim("iss", ""), claim("sub", "")}, "iss"},
		{"CA-06 sub a list", []edit{claim("sub", []string{a.ClientID})}, ""},
		{"CA-06 both NUL", []edit{claim("iss", "\x00"), claim("sub", "\x00")}, "not registered"},

		{"CA-07 no exp", []edit{noClaim("exp")}, "exp"},
		{"CA-07 exp null", []edit{claim("exp", nil)}, "exp"},
		{"CA-07 exp text", []edit{claim("exp", "4102444800")}, ""},
		{"CA-07 expired, the skew over", []edit{claim("exp", now-60)}, "expired"},
		{"CA-07 expired long ago", []edit{claim("exp", -1e300)}, "expired"},
		{"CA-11 exp too far ahead", []edit{claim("exp", now+3700)}, "in the future"},
		{"CA-11 exp as far as can be", []edit{claim("exp", math.MaxFloat64)}, "in the future"},
		{"CA-08 nbf ahead", []edit{claim("nbf", now+61)}, "nbf"},
		{"CA-08 iat ahead", []edit{claim("iat", now+61)}, "iat"},
		{"CA-08 iat text", []edit{claim("iat", "now")}, ""},

		{"CA-09 no jti", []edit{noClaim("jti")}, "jti"},
		{"CA-09 jti empty", []edit{claim("jti", "")}, "jti"},
		{"CA-09 jti a number", []edit{claim("jti", 1)}, ""},
		{"CA-09 jti too long", []edit{claim("jti", strings.Repeat("j", 257))}, "jti"},

		{"CA-13 signed by the key in the header",
			[]edit{header("jwk", jwk(t, edwards)), header("alg", "EdDSA"), signature(func(input []byte) []byte {
				return edwards.Sign(t, input)
			})}, "alg"},
		{"CA-13 signed by another key in the header", func() []edit {
			own := servertest.NewKey(t, "ec", "ES256")
			return []edit{header("jwk", jwk(t, own)),
				signature(func(input []byte) []byte { return own.Sign(t, input) })}
		}(), "signature"},
		{"CA-13 private key in the header", []edit{header("jwk", map[string]any{"kty": "oct", "k": "c2VjcmV0"})}, ""},
		{"CA-13 jku, x5u",
			[]edit{header("jku", canary.URL+"/jku"), header("x5u", canary.URL+"/x5u"), header("kid", "other")}, "kid"},
		{"CA-13 x5c is nonsense", []edit{header("x5c", []string{"AAAA"})}, ""},

		{"CA-16 Alg beside alg", []edit{header("Alg", "none")}, "another case"},
		{"CA-16 \u212aid beside kid", []edit{header("\u212aid", "rsa")}, "another case"},
		{"CA-14 crit unknown", []edit{header("crit", []string{"exp2"}), header("exp2", 1)}, "crit"},
		{"CA-14 crit empty", []edit{header("crit", []string{})}, "crit"},
		{"CA-14 b64 false", []edit{header("crit", []string{"b64"}), header("b64", false)}, "b64"},
		{"CA-14 b64 false, not critical", []edit{header("b64", false)}, "b64"},
		{"CA-16 Sub in place of sub", []edit{noClaim("sub"), claim("Sub", a.ClientID)}, "another case"},
		{"CA-16 \u017fub in place of sub", []edit{noClaim("sub"), claim("\u017fub", a.ClientID)}, "another case"},
		{"CA-16 \u017fub beside sub", []edit{claim("\u017fub", "another")}, "another case"},
		{"CA-16 i\u017fs beside iss", []edit{claim("i\u017fs", "another")}, "another case"},
		{"CA-16 ISS in place of iss", []edit{noClaim("iss"), claim("ISS", a.ClientID)}, "another case"},

		{"CA-17 r and s are zero", []edit{fixed(make([]byte, 64))}, "signature"},
		{"CA-17 s is zero", []edit{signature(func(input []byte) []byte {
			return append(ec.Sign(t, input)[:32], make([]byte, 32)...)
		})}, "signature"},
		{"CA-17 r and s are the order",
			[]edit{fixed(append(elliptic.P256().Params().N.Bytes(), elliptic.P256().Params().N.Bytes()...))},
			"signature"},
		{"CA-17 DER", []edit{signature(func(input []byte) []byte {
			sig := ec.Sign(t, input)
			der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:32]),
				new(big.Int).SetBytes(sig[32:])})
			return der
		})}, "signature"},
		{"CA-17 a byte more", []edit{signature(func(input []byte) []byte { return append(ec.Sign(t, input), 0) })},
			"signature"},
		{"CA-17 by a P-384 key", []edit{signature(func(input []byte) []byte {
			key, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			return (&servertest.Key{Alg: "ES384", Private: key}).Sign(t, input)
		})}, "signature"},
		{"of other claims", []edit{signature(func(input []byte) []byte { return ec.Sign(t, append(input, '.')) })},
			"signature"},

		{"CA-20 typ of an ID-JAG", []edit{header("typ", "oauth-id-jag+jwt")}, "typ"},
		{"CA-20 typ of an access token", []edit{header("typ", "at+jwt")}, "typ"},
		{"CA-20 typ of a DPoP proof", []edit{header("typ", "dpop+jwt")}, "typ"},
		{"CA-20 typ empty", []edit{header("typ", "")}, "typ"},
		{"CA-20 typ a number", []edit{header("typ", 1)}, "typ"},
	}
	for _, kid := range []string{
		"../../dev/null", "' OR 1=1 --", canary.URL, "EC", "", " ec", strings.Repeat("k", 4<<10),
		strings.Repeat("k", 10<<10), "ec\x00", "\x00",
	} {
		attacks = append(attacks, attack{"CA-12 kid " + kid[:min(len(kid), 20)],
			[]edit{header("kid", kid), signature(func(input []byte) []byte { return edwards.Sign(t, input) })}, ""})
	}
	for _, test := range attacks {
		t.Run(test.name, func(t *testing.T) {
			refused(t, s, ask(s.Agent(t, nil), a.Assertion(test.edits...)), test.why)
		})
	}

	for alg, victim := range agents {
		t.Run("CA-02 HS256 by the public key of "+alg, func(t *testing.T) {
			public := victim.Key.Private.Public()
			der, err := x509.MarshalPKIXPublicKey(public)
			if err != nil {
				t.Fatal(err)
			}
			secrets := map[string][]byte{
				"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
				"JWK": jwk(t, victim.Key), "the set": servertest.KeySet(t, victim.Key),
			}
			if key, ok := public.(*rsa.PublicKey); ok {
				secrets["PKCS1"] = x509.MarshalPKCS1PublicKey(key)
			}
			for name, secret := range secrets {
				hs256 := func(input []byte) []byte {
					mac := hmac.New(sha256.New, secret)
					mac.Write(input)
					return mac.Sum(nil)
				}
				t.Run(name, func(t *testing.T) {
					for _, as := range []string{"HS256", alg} {
						refused(t, s, ask(s.Agent(t, nil), victim.Assertion(header("alg", as), signature(hs256))), "")
					}
				})
			}
		})
	}
	t.Run("CA-04 another alg than the registered one", func(t *testing.T) {
		both := servertest.NewKey(t, "rsa", "RS256")
		b := signed(t, s, both, func(c *oauth.Client) { c.SigningAlg = "PS256" })
		refused(t, s, ask(b, b.Assertion()), "PS256")
		b.Key = &servertest.Key{ID: "rsa", Alg: "PS256", Private: both.Private}
		b.ClientCredentials().Tokens()
	})
	t.Run("CA-04 another alg than the key's", func(t *testing.T) {
		set, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: rsaKey.Private.Public(),
			Algorithm: "PS256"}}})
		b := s.Agent(t, s.Client(machine, servertest.Signed(set)))
		b.Key = &servertest.Key{Alg: "RS256", Private: rsaKey.Private}
		refused(t, s, ask(b, b.Assertion()), "alg")
	})
	t.Run("CA-12 no kid with several keys", func(t *testing.T) {
		other := servertest.NewKey(t, "other", "ES256")
		b := signed(t, s, ec, servertest.Signed(servertest.KeySet(t, ec, other)))
		b.ClientCredentials().Tokens()
		refused(t, s, ask(b, b.Assertion(func(a *servertest.Assertion) { delete(a.Header, "kid") })), "kid")
		refused(t, s, ask(b, b.Assertion(header("kid", "other"))), "signature")
		b.Key = other
		b.ClientCredentials().Tokens()
	})
	t.Run("CA-16 claims and header members twice", func(t *testing.T) {
		sign := func(head, payload string) string {
			input := base64.RawURLEncoding.EncodeToString([]byte(head)) + "." +
				base64.RawURLEncoding.EncodeToString([]byte(payload))
			return input + "." + base64.RawURLEncoding.EncodeToString(ec.Sign(t, []byte(input)))
		}
		claims, _ := json.Marshal(map[string]any{"iss": a.ClientID, "aud": s.URL, "exp": now + 60, "jti": rand.Text()})
		once := strings.TrimSuffix(string(claims), "}")
		ask(a, sign(`{"alg":"ES256"}`, once+`,"sub":"`+a.ClientID+`"}`)).Tokens()
		const (
			head       = `{"alg":"ES256"}`
			badHeader  = "it is not a signed JWT of three parts without duplicate names in its header"
			badPayload = "its payload is not a JSON object, or has a claim twice or of the wrong type"
		)
		sub := `,"sub":"` + a.ClientID + `"`
		for _, tt := range []struct{ head, payload, why string }{
			{head, once + sub + sub + "}", badPayload},
			{head, once + `,"sub":"mcp_other"` + sub + "}", badPayload},
			{head, once + sub + "} {}", badPayload},
			{head, "[" + once + sub + "}]", badPayload},
			{`{"alg":"ES256","alg":"ES256"}`, once + sub + "}", badHeader},
			{`{"alg":"none","alg":"ES256"}`, once + sub + "}", badHeader},
			{`{"alg":"ES256","typ":"JWT"} {}`, once + sub + "}", badHeader},
			{`{"alg":"ES256","kid":"ec","x":1`, once + sub + "}", badHeader},
		} {
			refused(t, s, ask(a, sign(tt.head, tt.payload)), tt.why)
		}
	})
	t.Run("CA-16 a claim in upper case", func(t *testing.T) {
		refused(t, s, ask(a, a.Assertion(claim("Sub", a.ClientID))), "another case")
		a.ClientCredentials().Tokens()
	})
	t.Run("CA-12 texts that are no assertion", func(t *testing.T) {
		good := a.Assertion()
		parts := strings.Split(good, ".")
		for _, text := range []string{
			"x", ".", "..", "...", "a.b.c", good + ".", good + ".e30", "." + good, parts[0] + "." + parts[1],
			parts[0] + ".." + parts[2], "." + parts[1] + "." + parts[2],
			`{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
			strings.ReplaceAll(good, ".", ". "), good[:9] + "\n" + good[9:], good + "\r\n", good + "=",
			strings.Repeat("A", 9<<10), good[:len(good)-8], strings.Replace(good, ".", "%2E", 1),
		} {
			refused(t, s, ask(a, text), "")
		}
		ask(a, good).Tokens() // none of the refused requests has spent it
	})
	t.Run("CA-20 access tokens, and an assertion as a grant", func(t *testing.T) {
		refused(t, s, ask(a, a.ClientCredentials().Tokens().Access), "typ")
		a.Token(url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"},
			"assertion": {a.Assertion()}}).Refused(http.StatusBadRequest, "unsupported_grant_type")
	})
	t.Run("a client that is disabled", func(t *testing.T) {
		b := signed(t, s, ec, func(c *oauth.Client) { c.DisabledAt = s.Clock.Now() })
		refused(t, s, ask(b, b.Assertion()), "disabled")
	})
}

func TestAssertionAlone(t *testing.T) {
	s := servertest.StartWeather(t)
	key := servertest.NewKey(t, "", "ES256")
	a := signed(t, s, key)
	secret := s.Client(machine, servertest.Confidential)
	basic := func(id, secret string) servertest.Tweak {
		return servertest.Header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(id+":"+secret)))
	}
	const twoWays = "one authentication method only"
	t.Run("CA-22 an unsigned assertion and a valid secret", func(t *testing.T) {
		unsigned := a.Assertion(header("alg", "none"), fixed(nil), claim("iss", secret.ID), claim("sub", secret.ID))
		reply := ask(s.Agent(t, nil), unsigned, basic(secret.ID, secret.Secret))
		reply.Refused(http.StatusUnauthorized, "invalid_client")
		if !strings.HasPrefix(reply.Header.Get("WWW-Authenticate"), "Basic") {
			t.Errorf("WWW-Authenticate is %q for a client that tried Basic", reply.Header.Get("WWW-Authenticate"))
		}
		refused(t, s, ask(s.Agent(t, nil), unsigned, servertest.With("client_secret", secret.Secret)), twoWays)
	})
	t.Run("CA-22 a good assertion and anything else", func(t *testing.T) {
		refused(t, s, ask(a, a.Assertion(), servertest.With("client_secret", "x")), twoWays)
		refused(t, s,
			ask(a, a.Assertion(), servertest.With("client_secret", secret.Secret),
				servertest.With("client_id", secret.ID)), twoWays)
		refused(t, s, ask(a, a.Assertion(), servertest.Header("Authorization", "Bearer x")), twoWays)
		ask(a, a.Assertion(), basic(a.ClientID, "")).Refused(http.StatusUnauthorized, "invalid_client")
		refused(t, s, ask(a, a.Assertion(), servertest.Without("client_assertion_type")), "client_assertion_type")
		refused(t, s,
			ask(a, a.Assertion(),
				servertest.With("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer")),
			"client_assertion_type")
		refused(t, s,
			ask(a, a.Assertion(), servertest.Without("client_assertion"), servertest.With("client_id", a.ClientID)),
			"signed JWT")
	})
	t.Run("CA-22 a secret, or nothing, where an assertion is required", func(t *testing.T) {
		const must = "must authenticate with a client_assertion"
		left := signed(t, s, key, func(c *oauth.Client) { // a secret from before the change of method
			c.Secrets = []oauth.Secret{{Hash: oauth.Hash("left-over"), CreatedAt: c.CreatedAt}}
		})
		left.Key = nil
		refused(t, s, left.ClientCredentials(), must)
		refused(t, s, left.ClientCredentials(servertest.With("client_secret", "left-over")), must)
		left.Secret = "left-over"
		left.ClientCredentials().Refused(http.StatusUnauthorized, "invalid_client")
	})
	t.Run("an assertion where a secret, or nothing, is registered", func(t *testing.T) {
		for _, edit := range []func(*oauth.Client){
			servertest.Confidential, func(c *oauth.Client) { c.Method = oauth.MethodNone },
		} {
			b := s.Agent(t, s.Client(machine, edit, func(c *oauth.Client) { c.JWKS = servertest.KeySet(t, key) }))
			b.Key = key
			refused(t, s, ask(b, b.Assertion()), "not for private_key_jwt")
		}
	})
}

func TestAssertionEndpoints(t *testing.T) {
	s := servertest.StartWeather(t)
	ada := s.User("ada@example.com")
	key := servertest.NewKey(t, "", "EdDSA")
	forPeople := func(c *oauth.Client) {
		c.RedirectURIs, c.ResponseTypes = []string{servertest.Callback}, []string{"code"}
		c.GrantTypes = []oauth.GrantType{oauth.AuthorizationCode, oauth.RefreshToken, oauth.ClientCredentials}
	}
	a := signed(t, s, key, forPeople)
	a.RedirectURI = servertest.Callback

	t.Run("every grant type, introspection and revocation", func(t *testing.T) {
		a := *a
		first := a.Connect(s.Browser(t), ada)
		second := a.Refresh(first.Refresh).Tokens()
		if !a.Active(second.Access) || !a.Active(second.Refresh) {
			t.Error("the tokens are not active")
		}
		if reply := a.Revoke(second.Refresh); reply.Status != http.StatusOK {
			t.Errorf("status is %d, want %d: %s", reply.Status, http.StatusOK, reply.Body)
		}
		if a.Active(second.Access) {
			t.Error("the grant was not revoked")
		}
	})
	t.Run("as a resource server", func(t *testing.T) {
		tokens := a.ClientCredentials().Tokens()
		rs := s.Agent(t,
			s.Client(servertest.ResourceServer(servertest.MCP), servertest.Signed(servertest.KeySet(t, key))))
		rs.Key = key
		if !rs.Active(tokens.Access) {
			t.Error("the token is not active")
		}
		rs.Introspect(tokens.Access, servertest.Assert(rs.Assertion(claim("aud", s.URL+"/oauth2/introspect")))).JSON()
		rs.Introspect(tokens.Access, servertest.Assert(rs.Assertion(claim("aud", s.URL+"/oauth2/revoke")))).
			Refused(http.StatusUnauthorized, "invalid_client")
		rs.Introspect(tokens.Access, servertest.Assert(rs.Assertion(claim("exp", 1)))).
			Refused(http.StatusUnauthorized, "invalid_client")
		a.Revoke(tokens.Access, servertest.Assert(a.Assertion(claim("aud", s.URL+"/oauth2/introspect")))).
			Refused(http.StatusUnauthorized, "invalid_client")
		if !rs.Active(tokens.Access) {
			t.Error("a client that did not authenticate revoked a token")
		}
	})
	t.Run("CA-09 one assertion at two endpoints", func(t *testing.T) {
		tokens := a.ClientCredentials().Tokens()
		once := a.Assertion()
		if reply := a.Introspect(tokens.Access, servertest.Assert(once)); reply.Status != http.StatusOK {
			t.Errorf("status is %d, want %d: %s", reply.Status, http.StatusOK, reply.Body)
		}
		a.Revoke(tokens.Access, servertest.Assert(once)).Refused(http.StatusUnauthorized, "invalid_client")
		refused(t, s, ask(a, once), "used before")
	})
	t.Run("a wrong assertion costs no code", func(t *testing.T) {
		a := *a
		code := s.Browser(t).Authorize(a.Authorization()).Through(ada).Code()
		a.Exchange(code, servertest.Assert(a.Assertion(fixed(nil)))).Refused(http.StatusUnauthorized, "invalid_client")
		a.Exchange(code).Tokens()
	})
	t.Run("CM-42 CA-22 a grant that began with a key goes on with it", func(t *testing.T) {
		either := signed(t, s, key, forPeople, func(c *oauth.Client) {
			c.Methods = []oauth.Method{oauth.MethodPrivateKeyJWT, oauth.MethodNone}
		})
		either.RedirectURI = servertest.Callback
		tokens := either.Connect(s.Browser(t), ada)
		thief := *either
		thief.Key = nil
		refused(t, s, thief.Refresh(tokens.Refresh), "must still authenticate")
		thief.ClientCredentials().Refused(http.StatusBadRequest, "unauthorized_client")
		refused(t, s, ask(&thief, either.Assertion(fixed(nil))), "signature") // it cannot fall back to the method none
		fresh := either.Refresh(tokens.Refresh).Tokens()

		began := thief.Connect(s.Browser(t), ada) // the same client elsewhere, without a key
		thief.Refresh(began.Refresh).Tokens()
		refused(t, s, thief.Refresh(fresh.Refresh), "must still authenticate")
		either.Refresh(fresh.Refresh).Tokens()
	})
}

// TestAssertionFlood checks that a client that anybody can register cannot fill the database with spent assertions.
func TestAssertionFlood(t *testing.T) {
	s := servertest.StartWeather(t, func(c *config.Config) {
		c.Limits.Enabled, c.Limits.Assertions = true, limit.Rate{Every: time.Minute, Burst: 3}
	})
	a, other := signed(t, s, servertest.NewKey(t, "", "ES256")), signed(t, s, servertest.NewKey(t, "", "ES256"))
	for range 3 {
		a.ClientCredentials().Tokens()
	}
	once := a.Assertion()
	ask(a, once).Refused(http.StatusTooManyRequests, "too_many_requests")
	ask(a, a.Assertion(fixed(nil))).Refused(http.StatusUnauthorized, "invalid_client")
	other.ClientCredentials().Tokens()
	s.Clock.Advance(time.Minute)
	ask(a, once).Tokens() // it was not spent
}

// TestAssertionsOfUnusedClients checks that a stranger cannot get around the limit of one client by registering many.
func TestAssertionsOfUnusedClients(t *testing.T) {
	s := servertest.StartWeather(t, func(c *config.Config) {
		c.Limits.Enabled, c.Limits.Failures = true, limit.Rate{Every: time.Minute, Burst: 6}
	})
	key := servertest.NewKey(t, "", "ES256")
	register := func(name string) *servertest.Agent {
		a := s.Agent(t, nil)
		a.Key = key
		a.Register(servertest.Metadata(map[string]any{"client_name": name,
			"token_endpoint_auth_method": "private_key_jwt", "jwks": servertest.KeySet(t, key)}))
		return a
	}
	revoke := func(a *servertest.Agent) *servertest.Reply {
		return a.Revoke("unknown", servertest.Assert(a.Assertion()))
	}
	counts := map[int]int{}
	for _, name := range []string{"One", "Two", "Three", "Four"} {
		a := register(name)
		for range 4 {
			counts[revoke(a).Status]++
		}
	}
	if counts[http.StatusOK] > 10 || counts[http.StatusTooManyRequests] == 0 {
		t.Errorf("answers by status: %v, want 429 once the share of the sender is used up, whatever the number of "+
			"its clients", counts)
	}
	approved := signed(t, s, key)
	approved.ClientCredentials().Tokens()
	s.Clock.Advance(time.Minute)
	if reply := revoke(register("Five")); reply.Status != http.StatusOK {
		t.Errorf("a minute later the status is %d", reply.Status)
	}
}

func TestAssertionReplay(t *testing.T) {
	t.Run("CA-09 CA-10 replays, on this node, another, and after a restart", func(t *testing.T) {
		for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
			t.Run(string(engine), func(t *testing.T) {
				dsn, clock := storetest.New(t, engine), storetest.NewClock()
				first := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
				first.Resource(servertest.MCP, "*"+weather)
				a := signed(t, first, servertest.NewKey(t, "", "ES256"))
				second := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
					func(c *config.Config) { c.Issuer = first.URL })
				once := a.Assertion()
				b := second.Agent(t, nil)
				ask(a, once).Tokens()
				const before = "used before"
				refused(t, first, ask(a, once), before)
				refused(t, second, ask(b, once), before)
				clock.Advance(5*time.Minute + 30*time.Second) // between exp and exp with the skew
				for _, s := range []*servertest.Server{first, second} {
					if _, err := s.DB.Sweep(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				refused(t, first, ask(a, once), before)
				refused(t, second, ask(b, once), before)
				restarted := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
					func(c *config.Config) { c.Issuer = first.URL })
				refused(t, restarted, ask(restarted.Agent(t, nil), once), before)
				clock.Advance(30 * time.Second)
				refused(t, second, ask(b, once), "expired")
			})
		}
	})
	t.Run("CA-09 64 uses at once, on two nodes", func(t *testing.T) {
		for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
			t.Run(string(engine), func(t *testing.T) {
				dsn, clock := storetest.New(t, engine), storetest.NewClock()
				first := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
				first.Resource(servertest.MCP, "*"+weather)
				a := signed(t, first, servertest.NewKey(t, "", "ES256"))
				second := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
					func(c *config.Config) { c.Issuer = first.URL })
				b := second.Agent(t, nil)
				for round := range 12 {
					once := a.Assertion()
					won := 0
					for _, reply := range servertest.AtOnce(64, func(i int) *servertest.Reply {
						return ask([]*servertest.Agent{a, b}[i%2], once)
					}) {
						if reply.Status == http.StatusOK {
							won++
						} else {
							reply.Refused(http.StatusUnauthorized, "invalid_client")
						}
					}
					if won != 1 {
						t.Fatalf("round %d: %d of 64 uses of one assertion succeeded, want 1", round, won)
					}
				}
			})
		}
	})
	t.Run("CA-09 a jti is its client's own, and a stranger uses up none", func(t *testing.T) {
		s := servertest.StartWeather(t)
		key := servertest.NewKey(t, "", "ES256")
		a, b := signed(t, s, key), signed(t, s, key)
		jti := claim("jti", "the-same")
		once := a.Assertion(jti)
		stranger := s.Agent(t, nil)
		for _, edits := range [][]func(*servertest.Assertion){
			{jti, fixed(make([]byte, 64))}, {jti, claim("aud", "https://other.example.com")}, {jti, claim("exp", 1)},
			{jti, header("kid", "x")},
		} {
			refused(t, s, ask(stranger, a.Assertion(edits...)), "")
		}
		ask(b, b.Assertion(jti)).Tokens()
		ask(a, once).Tokens()
		refused(t, s, ask(a, once), "used before")
		refused(t, s, ask(a, a.Assertion(jti)), "used before")
	})
}

// FuzzAssertion sends arbitrary text as an assertion. It must be refused, without a fault or a panic, unless it is
// equivalent to the valid one.
func FuzzAssertion(f *testing.F) {
	s := servertest.StartWeather(f)
	a := signed(f, s, servertest.NewKey(f, "k", "ES256"))
	good := a.Assertion()
	parts := strings.Split(good, ".")
	part := base64.RawURLEncoding.EncodeToString
	for _, seed := range []string{
		"", "a.b.c", good, good + "A", strings.ToUpper(good), a.Assertion(header("alg", "none"), fixed(nil)),
		a.Assertion(header("crit", []string{"b64"}), header("b64", false)),
		part([]byte(`{"alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}}`)) + "." + parts[1] +
			"." + parts[2],
		part([]byte(`{"alg":"ES256","x5c":["MIIB"],"zip":"DEF","epk":{}}`)) + "." +
			part([]byte(`{"iss":[],"aud":{"":0},"exp":1e999}`)) + "." + parts[2],
		part([]byte(`{"alg":"ES256"}`)) + "." +
			part([]byte(`{"iss":"\u0000","sub":"\ud800","aud":[[[]]],"exp":-0,"jti":null}`)) + ".",
		`{"payload":"e30","signatures":[]}`,
	} {
		f.Add(seed)
	}
	authenticator := &client.Authenticator{DB: s.DB, Directory: &client.Directory{DB: s.DB}, Issuer: s.URL}
	f.Fuzz(func(t *testing.T, text string) {
		form := url.Values{"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion": {text}}
		r := httptest.NewRequest(http.MethodPost, "/oauth2/token", nil)
		c, method, err := authenticator.Authenticate(r, form)
		switch refusal, refused := oauth.AsRefusal(err); {
		case err == nil && (c.ID != a.ClientID || method != oauth.MethodPrivateKeyJWT):
			t.Errorf("%q authenticates as %s by %s", text, c.ID, method)
		case err != nil && (!refused || refusal.Code != oauth.InvalidClient || c != nil || method != ""):
			t.Errorf("%q: %v, with client %v", text, err, c)
		}
		client.Claimed(form)
	})
}
