package client_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// keySite publishes a key set.
type keySite struct {
	*httptest.Server

	mu      sync.Mutex
	set     []byte // nil: the site is down
	fetches int
}

func newKeySite(t testing.TB, keys ...*servertest.Key) *keySite {
	site := &keySite{set: servertest.KeySet(t, keys...)}
	site.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		site.mu.Lock()
		defer site.mu.Unlock()
		site.fetches++
		if site.set == nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(site.set)
	}))
	t.Cleanup(site.Close)
	return site
}

func (k *keySite) publish(set []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set = set
}

// fetched returns how often the set was fetched since the last call.
func (k *keySite) fetched() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := k.fetches
	k.fetches = 0
	return n
}

// publishes is an edit for Client: its jwks_uri is on the site.
func (k *keySite) publishes(c *oauth.Client) {
	c.Method, c.JWKSURI, c.JWKS = oauth.MethodPrivateKeyJWT, k.URL+"/jwks.json", nil
}

func TestKeysAtURI(t *testing.T) {
	begin := func(t *testing.T, keys ...*servertest.Key) (*servertest.Server, *keySite, *servertest.Agent) {
		s, site := servertest.StartWeather(t, loopback,
			func(c *config.Config) { c.Limits.Enabled = true }), newKeySite(t, keys...)
		return s, site, signed(t, s, keys[0], site.publishes)
	}
	old, next := servertest.NewKey(t, "old", "ES256"), servertest.NewKey(t, "next", "EdDSA")
	count := func(t *testing.T, site *keySite, want int) {
		t.Helper()
		if got := site.fetched(); got != want {
			t.Errorf("the keys were fetched %d times, want %d", got, want)
		}
	}
	t.Run("fetched once, and remembered", func(t *testing.T) {
		_, site, a := begin(t, old)
		for range 3 {
			a.ClientCredentials().Tokens()
		}
		count(t, site, 1)
	})
	t.Run("a new key is seen at once", func(t *testing.T) {
		s, site, a := begin(t, old)
		a.ClientCredentials().Tokens()
		site.publish(servertest.KeySet(t, old, next))
		s.Clock.Advance(11 * time.Second)
		a.Key = next
		a.ClientCredentials().Tokens()
		a.ClientCredentials().Tokens()
		a.Key = old
		a.ClientCredentials().Tokens()
		count(t, site, 2)
	})
	t.Run("a new key without a kid, or under the old one", func(t *testing.T) {
		for _, kid := range []string{"", "same"} {
			first, second := servertest.NewKey(t, kid, "ES256"), servertest.NewKey(t, kid, "ES256")
			s, site, a := begin(t, first)
			a.ClientCredentials().Tokens()
			site.publish(servertest.KeySet(t, second))
			s.Clock.Advance(11 * time.Second)
			a.Key = second
			a.ClientCredentials().Tokens()
			a.Key = first
			refused(t, s, ask(a, a.Assertion()), "signature")
			count(t, site, 2)
		}
	})
	t.Run("CA-12 a flood of unknown kids", func(t *testing.T) {
		s, site, a := begin(t, old)
		a.ClientCredentials().Tokens()
		for _, up := range []bool{true, false} {
			for minute := range 3 {
				for i := range 30 {
					refused(t, s, ask(a, a.Assertion(header("kid", fmt.Sprint(minute, i)))), "kid")
				}
				s.Clock.Advance(11 * time.Second)
			}
			if got := site.fetched(); got > 4 {
				t.Errorf("the keys were fetched %d times in half a minute (site up: %v)", got, up)
			}
			site.publish(nil)
		}
		a.ClientCredentials().Tokens()
	})
	t.Run("CA-12 a flood while there are no keys", func(t *testing.T) {
		s, site, a := begin(t, old)
		site.publish(nil)
		for range 3 {
			refused(t, s, ask(a, a.Assertion()), "could not fetch the client's jwks_uri")
		}
		for range 30 {
			ask(a, a.Assertion()).Refused(http.StatusTooManyRequests, "too_many_requests")
		}
		count(t, site, 3)
		s.Clock.Advance(10 * time.Second)
		site.publish(servertest.KeySet(t, old))
		a.ClientCredentials().Tokens()
	})
	t.Run("CA-21 a key that was taken away", func(t *testing.T) {
		s, site, a := begin(t, old)
		a.ClientCredentials().Tokens()
		site.publish(servertest.KeySet(t, next))
		s.Clock.Advance(time.Hour)
		refused(t, s, ask(a, a.Assertion()), "kid")
		s.Clock.Advance(time.Minute)
		refused(t, s, ask(a, a.Assertion()), "kid")
		a.Key = next
		a.ClientCredentials().Tokens()
	})
	t.Run("CA-21 a registered key that was taken away", func(t *testing.T) {
		s := servertest.StartWeather(t)
		a := signed(t, s, old)
		once := a.Assertion()
		a.ClientCredentials().Tokens()
		c := *s.ClientOf(a.ClientID)
		c.JWKS = servertest.KeySet(t, next)
		s.Update(func(tx *store.Tx) error { return tx.UpdateClient(&c) })
		refused(t, s, ask(a, once), "kid")
		a.Key = next
		a.ClientCredentials().Tokens()
	})
	t.Run("the site is down for a while", func(t *testing.T) {
		s, site, a := begin(t, old)
		a.ClientCredentials().Tokens()
		site.publish(nil)
		s.Clock.Advance(2 * time.Hour)
		a.ClientCredentials().Tokens()
		s.Clock.Advance(24 * time.Hour)
		refused(t, s, ask(a, a.Assertion()), "could not fetch the client's jwks_uri")
	})
	t.Run("what is published is no key set, or gives a key away", func(t *testing.T) {
		s, site, a := begin(t, old)
		secret := []byte(`{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`)
		for set, why := range map[string]string{
			"[]": "not a JSON Web Key Set", string(secret): "public keys only", `{"keys":[]}`: "none of its keys",
		} {
			s.Clock.Advance(time.Minute)
			site.publish([]byte(set))
			refused(t, s, ask(a, a.Assertion()), why)
		}
		s.Clock.Advance(time.Minute)
		site.publish(servertest.KeySet(t, old))
		a.ClientCredentials().Tokens()
		site.publish(secret) // an invalid set does not replace a valid one
		s.Clock.Advance(2 * time.Hour)
		a.ClientCredentials().Tokens()
	})
	t.Run("CA-12 a thousand clients of one address with made-up assertions", func(t *testing.T) {
		s := servertest.StartWeather(t, loopback, func(c *config.Config) {
			c.Limits.Enabled, c.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		})
		site := newKeySite(t, old)
		from := func(address string) servertest.Tweak { return servertest.Header("X-Forwarded-For", address) }
		answers := map[int]int{}
		const clients = 1100
		fetches := 0
		for i := range clients {
			a := signed(t, s, next, func(c *oauth.Client) {
				c.Origin, c.ApprovedAt = oauth.ByRegistration, time.Time{}
				c.JWKS, c.JWKSURI = nil, fmt.Sprintf("%s/%d/jwks.json", site.URL, i)
			})
			reply := ask(a, a.Assertion(header("kid", "made-up")), from("203.0.113.7"))
			answers[reply.Status]++
			made := site.fetched()
			if fetches += made; made > 0 && reply.Status == http.StatusTooManyRequests {
				t.Errorf("%d fetches for client %d, which gets 429; want none", made, i)
			}
		}
		if fetches == 0 || fetches > 40 || answers[401] > 40 || answers[401]+answers[429] != clients {
			t.Errorf("%d clients cause %d fetches and the answers %v; want 401 and 40 fetches at most, then 429",
				clients, fetches, answers)
		}
		s.MayFault = true // 503 is expected here; every status is checked
		// One network uses up the common budget; senders from other networks are still served.
		for i := range 300 {
			a := signed(t, s, next,
				func(c *oauth.Client) { c.JWKS, c.JWKSURI = nil, fmt.Sprintf("%s/again/%d/jwks.json", site.URL, i) })
			reply := ask(a, a.Assertion(header("kid", "made-up")), from(fmt.Sprintf("203.0.113.%d", i%250)))
			if answers[reply.Status]++; reply.Status == 503 &&
				(reply.Text("error") != "temporarily_unavailable" || reply.Header.Get("Retry-After") == "") {
				t.Fatalf("Retry-After is %q, want one, and the error temporarily_unavailable: %s",
					reply.Header.Get("Retry-After"), reply.Body)
			}
		}
		if fetches := site.fetched(); fetches > 200 || answers[503] == 0 || answers[500] > 0 {
			t.Errorf("%d fetches and the answers %v; want 200 fetches at most, 503 for the rest, and no fault",
				fetches, answers)
		}
		honest := agentOf(t, s, publish(t, nil))
		reply := honest.Get("/oauth2/authorize?"+honest.Authorization().Encode(), from("198.51.100.4"))
		if reply.Status != http.StatusSeeOther {
			t.Errorf("an honest document: status %d: %s", reply.Status, reply.Body)
		}
		a := signed(t, s, old, site.publishes)
		ask(a, a.Assertion(), from("198.51.100.5")).Tokens()
		// A sender that is not served gets an error that names this server as the cause.
		late := agentOf(t, s, publish(t, nil))
		reply = late.Post("/oauth2/authorize", late.Authorization(), from("203.0.113.251"))
		if reply.Status != http.StatusServiceUnavailable || reply.Header.Get("Retry-After") == "" ||
			!strings.Contains(string(reply.Body), "is running too many fetches") {
			t.Errorf("status is %d, want %d, Retry-After %q: %s",
				reply.Status, http.StatusServiceUnavailable, reply.Header.Get("Retry-After"), reply.Body)
		}
	})
	t.Run("CM-09 a key set on this machine or next to it", func(t *testing.T) {
		site := newKeySite(t, old)
		s := servertest.StartWeather(t)
		for _, uri := range []string{
			site.URL + "/jwks.json", "https://10.0.0.1/jwks", "https://[::1]/jwks", "https://localhost/jwks",
			"https://2130706433/jwks", "https://169.254.169.254/latest",
		} {
			a := signed(t, s, old, func(c *oauth.Client) { c.JWKS, c.JWKSURI = nil, uri })
			refused(t, s, ask(a, a.Assertion()), "could not fetch the client's jwks_uri")
			if s.Events("token.request")[0].Detail["cause"] == "" {
				t.Error("the audit event does not have the cause")
			}
		}
		count(t, site, 0)
	})
}

// jwkOf is a JWK of members.
func jwkOf(members ...string) map[string]any {
	k := map[string]any{}
	for i := 0; i < len(members); i += 2 {
		k[members[i]] = members[i+1]
	}
	return k
}

func TestRegisteredKeys(t *testing.T) {
	s := servertest.StartWeather(t, loopback)
	ada := s.User("ada@example.com")
	encode := base64.RawURLEncoding.EncodeToString
	ec := jwkOf("kty", "EC", "crv", "P-256", "x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y",
		"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")
	with := func(k map[string]any, members ...string) map[string]any {
		changed := jwkOf(members...)
		for name, value := range k {
			if _, ok := changed[name]; !ok {
				changed[name] = value
			}
		}
		return changed
	}
	edwards := jwkOf("kty", "OKP", "crv", "Ed25519", "x", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	rsaOf := func(bits int, e ...byte) map[string]any {
		n := make([]byte, bits/8)
		_, _ = rand.Read(n)
		n[0], n[len(n)-1] = n[0]|0x80, n[len(n)-1]|1
		return jwkOf("kty", "RSA", "n", encode(n), "e", encode(e))
	}
	good := []byte{1, 0, 1}
	register := func(t *testing.T, keys []map[string]any, members map[string]any) *servertest.Reply {
		m := map[string]any{"token_endpoint_auth_method": "private_key_jwt"}
		if keys != nil {
			m["jwks"] = map[string]any{"keys": keys}
		}
		for name, value := range members {
			m[name] = value
		}
		return s.Agent(t, nil).Register(servertest.Metadata(m))
	}
	set := func(keys ...map[string]any) []map[string]any { return keys }

	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	many := func(n int) (keys []map[string]any) {
		for i := range n {
			keys = append(keys, with(ec, "kid", fmt.Sprint(i)))
		}
		return keys
	}
	for _, test := range []struct {
		name    string
		keys    []map[string]any
		members map[string]any
	}{
		{"no keys", nil, nil},
		{"jwks null", nil, map[string]any{"jwks": nil}},
		{"an empty set", set(), nil},
		{"CA-18 RSA of 1024 bits", set(rsaOf(1024, good...)), nil},
		{"CA-18 RSA of 16384 bits", set(rsaOf(16384, good...)), nil},
		{"CA-18 RSA with e=1", set(rsaOf(2048, 1)), nil},
		{"CA-18 RSA with e=3", set(rsaOf(2048, 3)), nil},
		{"CA-18 RSA with an even e", set(rsaOf(2048, 1, 0, 2)), nil},
		{"CA-18 RSA with an endless e", set(rsaOf(2048, bytes.Repeat([]byte{0xff}, 64)...)), nil},
		{"CA-18 RSA with an even n",
			set(with(rsaOf(2048, good...), "n", encode(append(bytes.Repeat([]byte{0xff}, 255), 0xfe)))), nil},
		{"CA-18 RSA without e", set(jwkOf("kty", "RSA", "n", encode(make([]byte, 256)))), nil},
		{"CA-18 EC off its curve", set(with(ec, "y", ec["x"].(string))), nil},
		{"CA-18 EC at infinity", set(with(ec, "x", encode(make([]byte, 32)), "y", encode(make([]byte, 32)))), nil},
		{"CA-17 CA-18 EC on P-384 alone",
			set(jwkOf("kty", "EC", "crv", "P-384", "x", encode(p384.X.Bytes()), "y", encode(p384.Y.Bytes()))), nil},
		{"CA-18 DC-24 oct", set(jwkOf("kty", "oct", "k", "c2VjcmV0")), nil},
		{"CA-18 DC-24 oct beside a good one", set(ec, jwkOf("kty", "oct", "k", "c2VjcmV0")), nil},
		{"DC-24 a private EC key", set(with(ec, "d", "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI")), nil},
		{"DC-24 a private Ed25519 key", set(with(edwards, "d", "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")), nil},
		{"DC-24 a private RSA key", set(with(rsaOf(2048, good...), "d", encode([]byte{1}))), nil},
		{"DC-24 a prime of an RSA key", set(with(rsaOf(2048, good...), "p", encode([]byte{1}))), nil},
		{"DC-24 a private key of another kind",
			set(ec, jwkOf("kty", "OKP", "crv", "X25519", "x", "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo", "d", "x")),
			nil},
		{"Ed25519 of the wrong length", set(with(edwards, "x", encode(make([]byte, 31)))), nil},
		{"for encryption alone", set(with(ec, "use", "enc")), nil},
		{"for another alg alone", set(with(ec, "alg", "ECDH-ES")), nil},
		{"two with one kid", set(with(ec, "kid", "1"), with(edwards, "kid", "1")), nil},
		{"two, one without a kid", set(with(ec, "kid", "1"), edwards), nil},
		{"two without a kid", set(ec, edwards), nil},
		{"a long kid", set(with(ec, "kid", strings.Repeat("k", 513))), nil},
		{"seventeen", many(17), nil},
		{"too long",
			set(with(ec, "kid", "1"), with(edwards, "kid", "2", "use", "enc", "x5u", strings.Repeat("x", 17<<10))),
			nil},
		{"kty missing", set(jwkOf("x", "1")), nil},
		{"DC-25 jwks and jwks_uri", set(ec), map[string]any{"jwks_uri": "https://agent.example.com/jwks"}},
		{"DC-01 jwks_uri javascript:", nil, map[string]any{"jwks_uri": "javascript:alert(1)"}},
		{"DC-01 jwks_uri file:", nil, map[string]any{"jwks_uri": "file:///etc/passwd"}},
		{"DC-02 jwks_uri http", nil, map[string]any{"jwks_uri": "http://agent.example.com/jwks"}},
		{"jwks_uri with a user name", nil, map[string]any{"jwks_uri": "https://a:b@agent.example.com/jwks"}},
		{"jwks_uri with a fragment", nil, map[string]any{"jwks_uri": "https://agent.example.com/jwks#keys"}},
		{"CM-08 jwks_uri of an address", nil, map[string]any{"jwks_uri": "https://10.0.0.1/jwks"}},
		{"CM-08 jwks_uri of an address in disguise", nil, map[string]any{"jwks_uri": "https://2130706433/jwks"}},
		{"alg none", set(ec), map[string]any{"token_endpoint_auth_signing_alg": "none"}},
		{"alg HS256", set(ec), map[string]any{"token_endpoint_auth_signing_alg": "HS256"}},
		{"a set that is a list", nil, map[string]any{"jwks": []any{ec}}},
		{"a set that is text", nil, map[string]any{"jwks": `{"keys":[]}`}},
		{"keys that is an object", nil, map[string]any{"jwks": map[string]any{"keys": ec}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			register(t, test.keys, test.members).Refused(http.StatusBadRequest, "invalid_client_metadata")
		})
	}
	for _, uri := range []string{"http://localhost:3000/jwks", "https://127.0.0.1/jwks", "https://[::1]/jwks"} {
		t.Run("jwks_uri on this machine "+uri, func(t *testing.T) {
			m := servertest.Metadata(map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks_uri": uri})
			servertest.StartWeather(t).Agent(t, nil).Register(m).
				Refused(http.StatusBadRequest, "invalid_client_metadata")
		})
	}
	t.Run("CA-16 a JWK that says its kind twice", func(t *testing.T) {
		body := `{"redirect_uris":["` + servertest.Callback +
			`"],"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[{"kty":"oct","kty":"EC"}]}}`
		s.Agent(t, nil).RegisterRaw("application/json", body).Refused(http.StatusBadRequest, "invalid_client_metadata")
	})

	for _, test := range []struct {
		name string
		keys []map[string]any
		kids []string
	}{
		{"EC", set(ec), []string{""}},
		{"RSA", set(with(rsaOf(2048, good...), "alg", "PS256")), []string{""}},
		{"Ed25519", set(with(edwards, "use", "sig", "alg", "EdDSA", "kid", "e")), []string{"e"}},
		{"sixteen", many(16), strings.Fields("0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15")},
		{"others beside it",
			set(with(ec, "use", "enc"), jwkOf("kty", "EC", "crv", "P-521", "x", "1"), jwkOf("kty", "new"),
				with(edwards, "kid", "e")), []string{"e"}},
	} {
		t.Run("accepted: "+test.name, func(t *testing.T) {
			a := s.Agent(t, nil)
			servertest.Registered(t,
				a.Register(servertest.Metadata(map[string]any{"token_endpoint_auth_method": "private_key_jwt",
					"jwks": map[string]any{"keys": test.keys}})))
			if diff := cmp.Diff(test.kids, client.KeyIDs(&s.ClientOf(a.ClientID).Metadata)); diff != "" {
				t.Errorf("kids (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("the whole way", func(t *testing.T) {
		key := servertest.NewKey(t, "k", "EdDSA")
		a, again := s.Agent(t, nil), s.Agent(t, nil)
		said := servertest.Metadata(map[string]any{
			"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "EdDSA",
			"jwks":                                  servertest.KeySet(t, key),
			"token_endpoint_auth_methods_supported": []string{"none", "client_secret_basic"},
		})
		info := servertest.Registered(t, a.Register(said))
		for name, want := range map[string]any{
			"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "EdDSA",
			"jwks": nil, "client_secret": nil, "client_secret_expires_at": nil,
			"token_endpoint_auth_methods_supported": nil,
		} {
			if info[name] != want {
				t.Errorf("%s is %v, want %v", name, info[name], want)
			}
		}
		servertest.Registered(t, again.Register(said))
		if again.ClientID == a.ClientID {
			t.Error("a stranger with the same metadata is the same confidential client")
		}
		thief := s.Agent(t, nil)
		thief.ClientID = a.ClientID
		a.Key = key
		tokens := a.Connect(s.Browser(t), ada)
		thief.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
		a.Refresh(tokens.Refresh).Tokens()
		a.ClientCredentials().Refused(http.StatusBadRequest, "unauthorized_client")
	})
	t.Run("CA-21 a client replaces its keys itself", func(t *testing.T) {
		old, next := servertest.NewKey(t, "k", "ES256"), servertest.NewKey(t, "k", "ES256")
		said := func(set any) map[string]any {
			return servertest.Metadata(map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": set})
		}
		a := s.Agent(t, nil)
		servertest.Registered(t, a.Register(said(servertest.KeySet(t, old))))
		a.Key = old
		tokens := a.Connect(s.Browser(t), ada)
		update := said(servertest.KeySet(t, next))
		update["client_id"] = a.ClientID
		if reply := a.Registration(http.MethodPut, update); reply.Status != http.StatusOK {
			t.Errorf("status is %d, want %d: %s", reply.Status, http.StatusOK, reply.Body)
		}
		delete(update, "jwks")
		a.Registration(http.MethodPut, update).Refused(http.StatusBadRequest, "invalid_client_metadata")
		a.Refresh(tokens.Refresh).Refused(http.StatusUnauthorized, "invalid_client")
		a.Key = next
		a.Refresh(tokens.Refresh).Tokens()
	})
	t.Run("the whole way with jwks_uri", func(t *testing.T) {
		key := servertest.NewKey(t, "k", "ES256")
		site := newKeySite(t, key)
		a := s.Agent(t, nil)
		info := servertest.Registered(t,
			a.Register(servertest.Metadata(map[string]any{"token_endpoint_auth_method": "private_key_jwt",
				"jwks_uri": site.URL + "/jwks.json"})))
		if info["jwks_uri"] != site.URL+"/jwks.json" || site.fetched() != 0 {
			t.Errorf("jwks_uri is %v, want that of the site, not fetched", info["jwks_uri"])
		}
		a.Key = key
		a.Connect(s.Browser(t), ada)
	})
	t.Run("keys of who does not sign are left out", func(t *testing.T) {
		for _, method := range []string{"none", "client_secret_basic"} {
			for _, keys := range []map[string]any{
				{"jwks": map[string]any{"keys": set(with(rsaOf(1024, 3), "kid", "x"), jwkOf("kty", "new"))}},
				{"jwks_uri": "https://agent.example.com/jwks"}, {"token_endpoint_auth_signing_alg": "RS512"},
			} {
				keys["token_endpoint_auth_method"] = method
				a := s.Agent(t, nil)
				info := servertest.Registered(t, a.Register(servertest.Metadata(keys)))
				c := s.ClientOf(a.ClientID)
				if info["jwks_uri"] != nil || info["jwks"] != nil || c.JWKS != nil || c.JWKSURI != "" ||
					c.SigningAlg != "" {
					t.Errorf("the registration keeps %v, want no keys", info)
				}
			}
		}
	})
	// a public key is not a secret, and having it proves nothing
	t.Run("the key of another is known to all", func(t *testing.T) {
		key := servertest.NewKey(t, "k", "ES256")
		victim, thief := s.Agent(t, nil), s.Agent(t, nil)
		for _, a := range []*servertest.Agent{victim, thief} {
			servertest.Registered(t,
				a.Register(servertest.Metadata(map[string]any{"token_endpoint_auth_method": "private_key_jwt",
					"jwks": servertest.KeySet(t, key)})))
		}
		victim.Key, thief.Key = key, key
		thief.Introspect("x", servertest.Assert(victim.Assertion(claim("sub", thief.ClientID)))).
			Refused(http.StatusUnauthorized, "invalid_client")
	})
}
