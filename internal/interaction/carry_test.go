package interaction_test

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/client"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/web/webtest"
	"github.com/cardea-auth/cardea/scope"
)

// start returns a Desk, its clock, a client and a resource with n scopes.
func start(t testing.TB, n int) (*interaction.Desk, *storetest.Clock, *oauth.Client, *oauth.Resource) {
	t.Helper()
	db, clock := storetest.Open(t, storetest.SQLite)
	c := &oauth.Client{
		ID:     "https://agent.example.com/oauth/client-metadata.json",
		Origin: oauth.ByOperator,
		Metadata: oauth.Metadata{RedirectURIs: []string{"https://other.example.com/callback",
			"https://agent.example.com/callback"}, GrantTypes: []oauth.GrantType{oauth.AuthorizationCode}},
		CreatedAt:  db.Now(),
		ApprovedAt: db.Now(),
	}
	resource := &oauth.Resource{ID: oauth.NewID("res_"), Identifier: "https://mcp.example.com/mcp"}
	for i := range n {
		resource.Scopes = append(resource.Scopes,
			oauth.ResourceScope{Name: fmt.Sprintf("mcp:tools:department-%d:read", i)})
	}
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		if err := tx.CreateClient(c, ""); err != nil {
			return err
		}
		return tx.CreateResource(resource)
	})
	if err != nil {
		t.Fatal(err)
	}
	sessions := &interaction.Sessions{DB: db, Pages: webtest.Pages, Idle: time.Hour, Max: time.Hour}
	return &interaction.Desk{Sessions: sessions, Clients: &client.Directory{DB: db}, Sealer: sealer,
		Issuer: "https://auth.example.com"}, clock, c, resource
}

// from returns a request with the given cookies.
func from(cookies ...*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, c := range cookies {
		r.AddCookie(c)
	}
	return r
}

func visitor(r *http.Request) interaction.Visitor {
	return interaction.Visitor{Browser: webtest.Pages.Browser(r)}
}

// random returns n characters of an alphabet.
func random(t testing.TB, n int, alphabet string) string {
	t.Helper()
	b := make([]byte, n)
	for i := range b {
		at, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			t.Fatal(err)
		}
		b[i] = alphabet[at.Int64()]
	}
	return string(b)
}

const (
	base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	challenge = oauth.Challenge("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
)

// A sealed request is opened unchanged, whatever it contains.
func TestCarried(t *testing.T) {
	desk, _, c, resource := start(t, 100)
	resource.Scopes = append(resource.Scopes, oauth.ResourceScope{Name: "mcp:files:*"})
	if err := desk.DB.Update(t.Context(), func(tx *store.Tx) error { return tx.UpdateResource(resource) }); err != nil {
		t.Fatal(err)
	}
	seconds := int64(0)
	states := map[string]string{
		"no state": "", "one byte": "x", "bytes that are no text": "\x00\xff\xfe\r\n", "text": "é\U0001F511 & state=1",
		"hex": "00ff10ab", "hex in upper case": "00FF10AB", "base64url": random(t, 43, base64url), "base64url with " +
			"bits that are never set": "AB", "much of everything": strings.Repeat("\x00a{\"", 500),
		"long hex": random(t, 4096, "0123456789abcdef"),
	}
	for name, state := range states {
		for _, redirectURI := range []string{"https://agent.example.com/callback", "http://127.0.0.1:49152/callback"} {
			for what, names := range map[string]scope.Set{
				"no scopes":             nil,
				"its own":               {"mcp:tools:department-7:read", "mcp:tools:department-3:read"},
				"all, and offline":      append(resource.ScopeNames(), oauth.OfflineAccess),
				"some that are covered": {"mcp:files:a", "mcp:tools:department-3:read", "mcp:files:b"},
			} {
				t.Run(name+", "+what, func(t *testing.T) {
					if redirectURI != c.RedirectURIs[1] {
						c := *c
						c.RedirectURIs = append(c.RedirectURIs[:2:2], "http://127.0.0.1/callback")
						if err := desk.DB.Update(t.Context(), func(tx *store.Tx) error {
							return tx.UpdateClient(&c)
						}); err != nil {
							t.Fatal(err)
						}
					}
					v := visitor(from())
					q := &interaction.Request{ID: oauth.NewID("req_"), Scope: names, Challenge: challenge,
						PromptLogin: state == "", PromptConsent: true, CrossSite: true, Waited: state == "hex",
						LoginHint: "ada@example.com", BegunAt: desk.DB.Now()}
					if state == "" {
						q.MaxAge = &seconds
					}
					reply := interaction.Reply{ClientID: c.ID, RedirectURI: redirectURI, State: state,
						Issuer: desk.Issuer, Automatic: true}
					a, err := desk.Open(v, c, reply, resource, q)
					if err != nil {
						t.Fatal(err)
					}
					again, err := desk.Resume(from(v.Browser.Cookie()), a.Sealed)
					if err != nil {
						t.Fatal(err)
					}
					if d := cmp.Diff(a.Request, again.Request); d != "" {
						t.Error(d)
					}
					if d := cmp.Diff(a.Reply, again.Reply); d != "" {
						t.Error(d)
					}
					if again.Client.ID != c.ID || again.Resource.ID != resource.ID || again.SignedIn() {
						t.Errorf("%+v", again)
					}
				})
			}
		}
	}
}

// Redirects must pass proxies that accept 4 KB of headers, including cookies.
func TestSealedIsShort(t *testing.T) {
	for _, c := range []struct {
		name   string
		scopes int
		state  string
		most   int
	}{
		{"four scopes and a short state", 4, random(t, 43, base64url), 512},
		{"100 scopes and a state of 1,000 characters", 100, random(t, 1000, base64url), 2000},
		{"80 scopes", 80, random(t, 43, base64url), 1000},
		{"a state of 2,000 characters", 4, random(t, 2000, base64url), 2500},
		{"a state of 2,000 characters that JSON in base64 is", 4,
			base64.RawURLEncoding.EncodeToString([]byte(`{"csrf":"` + random(t, 32, base64url) + `","return":"/` +
				random(t, 1400, base64url) + `"}`)), 2600},
		{"400 scopes", 400, random(t, 43, base64url), 2100},
	} {
		t.Run(c.name, func(t *testing.T) {
			desk, _, client, resource := start(t, c.scopes)
			q := &interaction.Request{ID: oauth.NewID("req_"), Scope: resource.ScopeNames(), Challenge: challenge,
				BegunAt: desk.DB.Now()}
			a, err := desk.Open(visitor(from()), client,
				interaction.Reply{RedirectURI: client.RedirectURIs[1], State: c.state}, resource, q)
			if err != nil {
				t.Fatal(err)
			}
			if got := len("/consent?request=" + a.Sealed); got > c.most {
				t.Errorf("%d characters, want at most %d", got, c.most)
			}
		})
	}
	t.Run("more scopes than a form can list are refused", func(t *testing.T) {
		desk, _, client, resource := start(t, 501)
		for n, want := range map[int]oauth.ErrorCode{500: "", 501: oauth.InvalidScope} {
			q := &interaction.Request{ID: oauth.NewID("req_"), Scope: resource.ScopeNames()[:n], Challenge: challenge,
				BegunAt: desk.DB.Now()}
			_, err := desk.Open(visitor(from()), client,
				interaction.Reply{RedirectURI: client.RedirectURIs[1]}, resource, q)
			if refusal, ok := oauth.AsRefusal(err); ok != (want != "") || ok && refusal.Code != want {
				t.Errorf("%d scopes: %v", n, err)
			}
		}
	})
	t.Run("what cannot be carried is refused", func(t *testing.T) {
		desk, _, client, resource := start(t, 4)
		q := &interaction.Request{ID: oauth.NewID("req_"), Challenge: challenge, BegunAt: desk.DB.Now()}
		_, err := desk.Open(visitor(from()), client,
			interaction.Reply{RedirectURI: client.RedirectURIs[1], State: random(t, 8000, base64url)}, resource, q)
		if refusal, ok := oauth.AsRefusal(err); !ok || refusal.Code != oauth.InvalidRequest {
			t.Errorf("%v", err)
		}
	})
}

// Client or resource change while the request waits.
func TestResume(t *testing.T) {
	desk, clock, c, resource := start(t, 4)
	begun := clock.Now()
	first := visitor(from())
	all := resource.ScopeNames()
	q := &interaction.Request{ID: oauth.NewID("req_"), Scope: all, Challenge: challenge, BegunAt: begun}
	reply := interaction.Reply{RedirectURI: c.RedirectURIs[1]}
	a, err := desk.Open(first, c, reply, resource, q)
	if err != nil {
		t.Fatal(err)
	}
	cookie := first.Browser.Cookie()
	other := webtest.Pages.Browser(from()).Cookie()
	altered := "A" + a.Sealed[1:]
	if altered == a.Sealed {
		altered = "B" + a.Sealed[1:]
	}

	for _, c := range []struct {
		name   string
		r      *http.Request
		sealed string
		after  time.Duration
		status int
	}{
		{"in time, in its browser", from(cookie), a.Sealed, interaction.Lifetime - time.Second, 0},
		{"in a browser that was given several cookies", from(other, cookie), a.Sealed, 0, 0},
		{"CN-21 too late", from(cookie), a.Sealed, interaction.Lifetime, 400},
		{"AZ-64 in another browser", from(other), a.Sealed, 0, 403},
		{"AZ-64 without cookies", from(), a.Sealed, 0, 403},
		{"altered", from(cookie), altered, 0, 400},
		{"none", from(cookie), "", 0, 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock.Set(begun.Add(c.after))
			got, err := desk.Resume(c.r, c.sealed)
			if c.status == 0 {
				if err != nil || got.ID != q.ID {
					t.Error(got, err)
				}
				return
			}
			if refusal, ok := oauth.AsRefusal(err); !ok || refusal.Status() != c.status || got != nil {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	clock.Set(begun)

	update := func(t *testing.T, names ...string) {
		t.Helper()
		changed := *resource
		changed.Scopes = nil
		for _, name := range names {
			changed.Scopes = append(changed.Scopes, oauth.ResourceScope{Name: name})
		}
		if err := desk.DB.Update(t.Context(), func(tx *store.Tx) error {
			return tx.UpdateResource(&changed)
		}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("the resource lists other scopes, in another order", func(t *testing.T) {
		update(t, "new:first", all[3], all[1], "new:last", all[0])
		got, err := desk.Resume(from(cookie), a.Sealed)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(scope.Of(all[0], all[1], all[3]), got.Scope); d != "" {
			t.Error(d)
		}
	})
	t.Run("the resource no longer has any of the scopes", func(t *testing.T) {
		update(t, "new:first")
		_, err := desk.Resume(from(cookie), a.Sealed)
		var answerable *interaction.Answerable
		if !errors.As(err, &answerable) || answerable.Reply.RedirectURI != reply.RedirectURI ||
			answerable.Reply.ClientID != c.ID {
			t.Fatalf("%v", err)
		}
		if refusal, _ := oauth.AsRefusal(err); refusal.Code != oauth.InvalidScope {
			t.Errorf("%v", err)
		}
	})
	update(t, all...)
	t.Run("the client lists its redirect URIs in another order", func(t *testing.T) {
		changed := *c
		changed.RedirectURIs = []string{c.RedirectURIs[1], c.RedirectURIs[0]}
		if err := desk.DB.Update(t.Context(), func(tx *store.Tx) error {
			return tx.UpdateClient(&changed)
		}); err != nil {
			t.Fatal(err)
		}
		if got, err := desk.Resume(from(cookie), a.Sealed); err != nil || got.Reply.RedirectURI != reply.RedirectURI {
			t.Errorf("%v, %v", got, err)
		}
	})
	t.Run("the client is bound to another resource", func(t *testing.T) {
		changed := *c
		changed.Resources = []string{"https://other.example.com/mcp"}
		if err := desk.DB.Update(t.Context(), func(tx *store.Tx) error {
			return tx.UpdateClient(&changed)
		}); err != nil {
			t.Fatal(err)
		}
		refusal, _ := oauth.AsRefusal(errOf(desk.Resume(from(cookie), a.Sealed)))
		if refusal == nil || refusal.Code != oauth.InvalidTarget {
			t.Errorf("%v", refusal)
		}
	})
}

func errOf(_ *interaction.Authorization, err error) error { return err }

func FuzzResume(f *testing.F) {
	desk, _, _, _ := start(f, 1)
	f.Add([]byte{1, 0})
	f.Add([]byte{1, 16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, plain []byte) {
		sealed, err := sealer.Seal("authorization request", plain)
		if err != nil {
			t.Fatal(err)
		}
		if a, err := desk.Resume(from(), sealed); a != nil || !oauth.IsRefusal(err) {
			t.Fatalf("%v, %v", a, err)
		}
	})
}
