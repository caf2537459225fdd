package token_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/token"
)

// unpacked returns the bits of the lst of a status list.
func unpacked(t testing.TB, lst string) []byte {
	t.Helper()
	packed, err := base64.RawURLEncoding.DecodeString(lst)
	if err != nil {
		t.Fatal(err)
	}
	r, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	bits, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return bits
}

// The examples and test vectors for lists of one bit (Token Status List §4.1, §4.2, appendix C.1).
func TestPackBits(t *testing.T) {
	example := []byte{0xb9, 0xa3} // statuses 1 0 0 1 1 1 0 1, 1 1 0 0 0 1 0 1
	vector := make([]byte, 1<<17)
	for _, index := range []int{0, 1993, 25460, 159495, 495669, 554353, 645645, 723232, 854545, 934534, 1000345} {
		vector[index/8] |= 1 << (index % 8)
	}
	packed, err := hex.DecodeString("78daeddc010dc0200c0041a88249400ad2903e0f4bba00bd93f002beb7a2a2010000a91e09000000000000000000000000000000807296" +
		"04000000000000000000000000000000000000000000000000000000000000000000000000000000005c6f4800000000000000fc2c240000000000000000000000be1b12" +
		"000000000000000000ecaa4b000000000000000000000000000000009b0b0900000000000000000038de9400000000000000002a30cc010000000080642f0bd8011b")
	if err != nil {
		t.Fatal(err)
	}
	for lst, want := range map[string][]byte{"eNrbuRgAAhcBXQ": example,
		base64.RawURLEncoding.EncodeToString(packed): vector} {
		if got := unpacked(t, lst); !bytes.Equal(got, want) {
			t.Errorf("%s unpacks to %d other bytes", lst, len(got))
		}
		ours, err := token.PackBits(want)
		if err != nil || !bytes.Equal(unpacked(t, ours), want) {
			t.Errorf("%s: %s %v", lst, ours, err)
		}
	}
}

// revoked fetches the status list of a token, checks it in every respect, and reports whether the bit of the token is
// set.
func revoked(t testing.TB, s *servertest.Server, access string) bool {
	t.Helper()
	status := servertest.Claims(t, access).Status
	if status == nil {
		t.Fatal("the token has no status")
	}
	_, name, ok := strings.Cut(status.List.URI, oauth.StatusPath)
	path := oauth.StatusPath + name
	if !ok || status.List.Index < 0 || status.List.Index >= 1<<20 {
		t.Fatalf("its status is %+v", status)
	}
	reply := s.Agent(t, nil).Get(path)
	if reply.Status != http.StatusOK || reply.Header.Get("Content-Type") != "application/statuslist+jwt" ||
		reply.Header.Get("Cache-Control") != "public, max-age=1" || reply.Header.Get("Content-Encoding") != "" {
		t.Fatalf("%s: %d %v %.100s", path, reply.Status, reply.Header, reply.Body)
	}
	signed, err := jose.ParseSignedCompact(string(reply.Body), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(s.Agent(t, nil).Get("/.well-known/jwks").Body, &keys); err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(keys)
	if err != nil || signed.Signatures[0].Protected.ExtraHeaders["typ"] != "statuslist+jwt" {
		t.Fatalf("%v %v", err, signed.Signatures[0].Protected)
	}
	var list struct {
		Subject string `json:"sub"`
		Issued  int64  `json:"iat"`
		Expiry  int64  `json:"exp"`
		TTL     int64  `json:"ttl"`
		List    struct {
			Bits int    `json:"bits"`
			List string `json:"lst"`
		} `json:"status_list"`
	}
	if err := json.Unmarshal(payload, &list); err != nil {
		t.Fatal(err)
	}
	now := s.Clock.Now().Unix()
	if list.Subject != status.List.URI || list.Issued > now || list.Expiry <= now || list.TTL <= 0 ||
		list.List.Bits != 1 {
		t.Fatalf("the list is %s", payload)
	}
	bits := unpacked(t, list.List.List)
	if len(bits) != 1<<17 {
		t.Fatalf("it has %d bytes", len(bits))
	}
	return bits[status.List.Index/8]>>(status.List.Index%8)&1 == 1
}

// Whatever ends tokens, at either node, is in the list of both; and so is what makes them count again.
func TestStatusList(t *testing.T) {
	user := func(s *site) string { return s.ada.ID }
	for _, test := range []struct {
		name  string
		end   func(s *site, tx *store.Tx, c *servertest.Client) error
		again func(s *site, tx *store.Tx, c *servertest.Client) error // nil: nothing does
	}{
		{"the person disconnects the agent", func(s *site, tx *store.Tx, _ *servertest.Client) error {
			_, err := tx.DisconnectAll(user(s))
			return err
		}, func(s *site, tx *store.Tx, _ *servertest.Client) error {
			grants, err := tx.Disconnected(user(s), tx.Now().Add(-time.Hour))
			if err == nil {
				_, err = tx.Restore(user(s), grants[0].ID, tx.Now().Add(-time.Hour))
			}
			return err
		}},
		{"the account is disabled",
			func(s *site, tx *store.Tx, _ *servertest.Client) error { return tx.DisableUser(user(s)) },
			func(s *site, tx *store.Tx, _ *servertest.Client) error { return tx.EnableUser(user(s)) }},
		{"the account is deleted",
			func(s *site, tx *store.Tx, _ *servertest.Client) error { return tx.DeleteUser(user(s)) }, nil},
		{"the grants of the account are revoked", func(s *site, tx *store.Tx, _ *servertest.Client) error {
			return tx.RevokeUserGrants(user(s), "operator")
		}, nil},
		{"the client is disabled",
			func(_ *site, tx *store.Tx, c *servertest.Client) error { return tx.DisableClient(c.ID) },
			func(_ *site, tx *store.Tx, c *servertest.Client) error { return tx.EnableClient(c.ID) }},
		{"the client is deleted",
			func(_ *site, tx *store.Tx, c *servertest.Client) error { return tx.DeleteClient(c.ID) }, nil},
		{"the client loses every scope", func(_ *site, tx *store.Tx, c *servertest.Client) error {
			return servertest.ChangeClient(func(c *oauth.Client) { c.Allowed = []string{"files"} })(tx, c.ID)
		}, func(_ *site, tx *store.Tx, c *servertest.Client) error {
			return servertest.ChangeClient(func(c *oauth.Client) { c.Allowed = nil })(tx, c.ID)
		}},
		{"the client is blocked", func(_ *site, tx *store.Tx, c *servertest.Client) error {
			return tx.CreateBlock(&oauth.Block{ID: "blk_1", ClientID: c.ID})
		}, func(_ *site, tx *store.Tx, _ *servertest.Client) error { return tx.DeleteBlock("blk_1") }},
		{"the server is deleted", func(_ *site, tx *store.Tx, _ *servertest.Client) error {
			r, err := tx.Resource(servertest.MCP)
			if err == nil {
				err = tx.DeleteResource(r.ID)
			}
			return err
		}, nil},
		{"the server is for a group", func(_ *site, tx *store.Tx, _ *servertest.Client) error {
			return resourceAs(func(r *oauth.Resource) { r.Groups = []string{"staff"} })(tx, "")
		}, func(s *site, tx *store.Tx, _ *servertest.Client) error {
			err := tx.CreateGroup(&identity.Group{ID: "grp_1", Name: "staff"})
			if err == nil {
				_, err = tx.AddMember("grp_1", user(s))
			}
			return err
		}},
	} {
		engines := []storetest.Engine{storetest.SQLite}
		// Judged with most statements.
		if test.name == "the client is blocked" || test.name == "the server is for a group" {
			engines = append(engines, storetest.Postgres)
		}
		for _, engine := range engines {
			t.Run(test.name+"/"+string(engine), func(t *testing.T) {
				dsn, clock := storetest.New(t, engine), storetest.NewClock()
				s := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
				far := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
					func(c *config.Config) { c.Issuer = s.URL })
				s.Resource(servertest.MCP, "*weather", "mail")
				w := &site{Server: s, ada: s.User("ada@example.com"), browser: s.Browser(t)}
				client := s.Client(servertest.Confidential, func(c *oauth.Client) { c.Origin = oauth.ByRegistration })
				first := s.Agent(t, client).Connect(w.browser, w.ada)
				bob := s.Agent(t, s.Client()).Connect(s.Browser(t), s.User("bob@example.com"))
				others := !strings.HasPrefix(test.name, "the server")
				want := func(when string, ended bool) {
					t.Helper()
					for node, at := range map[string]*servertest.Server{"here": s, "elsewhere": far} {
						eventually(t, fmt.Sprintf("%s, %s: want ended %v", when, node, ended), func() bool {
							return revoked(t, at, first.Access) == ended
						})
						if others && revoked(t, at, bob.Access) {
							t.Errorf("%s, %s: a token of another person and client ended", when, node)
						}
					}
				}
				want("before", false)
				update := func(change func(*site, *store.Tx, *servertest.Client) error) {
					t.Helper()
					if err := s.DB.Update(t.Context(), func(tx *store.Tx) error {
						return change(w, tx, client)
					}); err != nil {
						t.Fatal(err)
					}
				}
				update(test.end)
				want("after", true)
				if test.again != nil {
					update(test.again)
					want("again", false)
				}
			})
		}
	}
}

// eventually fails the test unless ok becomes true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// A grant ends with its session, and a client at the time that an operator set, without anybody doing anything.
func TestStatusListByTime(t *testing.T) {
	s := open(t)
	agent := s.Agent(t, s.Client(servertest.Confidential))
	page := s.browser.Authorize(agent.Authorization()).SignIn(s.ada)
	tokens := agent.Exchange(page.Submit(page.Form("decision"), servertest.With("decision", "allow"),
		servertest.With("duration", "session")).Code()).Tokens()
	machine := s.machine(t, func(c *oauth.Client) { c.ExpiresAt = s.Clock.Now().Add(time.Minute) })
	own := machine.ClientCredentials().Tokens()
	if revoked(t, s.Server, tokens.Access) || revoked(t, s.Server, own.Access) {
		t.Error("a token has ended before its time")
	}
	s.Clock.Advance(time.Minute)
	eventually(t, "the client has expired", func() bool { return revoked(t, s.Server, own.Access) })
	s.browser.Post("/logout", s.browser.Get("/logout").Form("").Values())
	eventually(t, "the session has ended", func() bool { return revoked(t, s.Server, tokens.Access) })
}

// machine returns a client that gets tokens in its own name.
func (s *site) machine(t testing.TB, edits ...func(*oauth.Client)) *servertest.Agent {
	t.Helper()
	return s.Agent(t, s.Client(append(slices.Clone(machineClient), edits...)...))
}

// machineClient makes a client one that gets tokens in its own name.
var machineClient = []func(*oauth.Client){servertest.Confidential, func(c *oauth.Client) {
	c.GrantTypes, c.Resources = []oauth.GrantType{oauth.ClientCredentials}, []string{servertest.MCP}
}}

// Each of a client's own tokens has its own place: revoking one marks it alone, disabling the client marks all, and
// what was revoked stays so when the client is enabled again.
func TestStatusOfOwnTokens(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*weather", "mail")
		w := &site{Server: s}
		agent, stranger := w.machine(t), w.machine(t)
		other := stranger.ClientCredentials().Tokens().Access
		var tokens []string
		places := map[string]bool{servertest.Claims(t, other).Status.String(): true}
		for range 40 { // more than the first block has
			access := agent.ClientCredentials().Tokens().Access
			tokens, places[servertest.Claims(t, access).Status.String()] = append(tokens, access), true
		}
		if len(places) != len(tokens)+1 {
			t.Errorf("%d tokens have %d places", len(tokens)+1, len(places))
		}
		want := func(when string, ended ...int) {
			t.Helper()
			eventually(t, when, func() bool { return revoked(t, s, tokens[1]) })
			for i, access := range tokens {
				if i%13 < 2 && revoked(t, s, access) != slices.Contains(ended, i) {
					t.Errorf("%s: the token %d is %v", when, i, revoked(t, s, access))
				}
			}
			if revoked(t, s, other) {
				t.Errorf("%s: a token of another client ended", when)
			}
		}
		agent.Revoke(tokens[1])
		want("one is revoked", 1)
		if agent.Active(tokens[1]) || !agent.Active(tokens[0]) {
			t.Error("introspection says otherwise")
		}
		s.Update(func(tx *store.Tx) error { return tx.DisableClient(agent.ClientID) })
		eventually(t, "the client is disabled", func() bool { return revoked(t, s, tokens[39]) })
		want("the client is disabled", 0, 1, 13, 14, 26, 27, 39)
		s.Update(func(tx *store.Tx) error { return tx.EnableClient(agent.ClientID) })
		eventually(t, "the client is enabled", func() bool { return !revoked(t, s, tokens[39]) })
		want("the client is enabled", 1)
	})
}

// An access token of a grant that is revoked by itself is marked, and the next one from the same grant is not.
func TestStatusOfOneAccessToken(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		s.Resource(servertest.MCP, "*weather", "mail")
		agent := s.Agent(t, s.Client(servertest.Confidential))
		first := agent.Connect(s.Browser(t), s.User("ada@example.com"))
		if a, b := servertest.Claims(t, first.Access).Status, servertest.Claims(t,
			agent.Refresh(first.Refresh).Tokens().Access).Status; *a != *b {
			t.Errorf("tokens of one grant have the places %v and %v", a, b)
		}
		agent.Revoke(first.Access)
		eventually(t, "it is revoked", func() bool { return revoked(t, s, first.Access) })
		second := agent.Refresh(first.Refresh).Tokens()
		if revoked(t, s, second.Access) {
			t.Error("the next access token is marked")
		}
		agent.Revoke(second.Refresh)
		eventually(t, "the grant is revoked", func() bool { return revoked(t, s, second.Access) })
	})
}

// Nodes that issue at the same time give no place twice.
func TestStatusPlacesAreOnce(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			dsn, clock := storetest.New(t, engine), storetest.NewClock()
			one := servertest.New(t, storetest.Connect(t, dsn, clock), clock)
			two := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
				func(c *config.Config) { c.Issuer = one.URL })
			one.Resource(servertest.MCP, "*weather", "mail")
			client := one.Client(machineClient...)
			eventually(t, "the other node knows the resource", func() bool {
				return two.Agent(t, client).ClientCredentials().Status == http.StatusOK
			})
			var mu sync.Mutex
			places, tokens := map[string]bool{}, 0
			var all sync.WaitGroup
			for _, s := range []*servertest.Server{one, two} {
				for range 8 {
					agent := s.Agent(t, client)
					all.Go(func() {
						for range 10 {
							place := servertest.Claims(t, agent.ClientCredentials().Tokens().Access).Status.String()
							mu.Lock()
							places[place], tokens = true, tokens+1
							mu.Unlock()
						}
					})
				}
			}
			all.Wait()
			if len(places) != tokens {
				t.Errorf("%d tokens have %d places", tokens, len(places))
			}
		})
	}
}

// A list is fetched again only if it has changed, and there is no other list.
func TestStatusRequests(t *testing.T) {
	s := open(t)
	agent := s.Agent(t, s.Client(servertest.Confidential))
	tokens := agent.Connect(s.browser, s.ada)
	path := strings.TrimPrefix(servertest.Claims(t, tokens.Access).Status.List.URI, s.URL)
	get := func(tweaks ...servertest.Tweak) *servertest.Reply { return s.Agent(t, nil).Get(path, tweaks...) }
	first := get()
	etag := first.Header.Get("ETag")
	for value, want := range map[string]int{etag: 304, "W/" + etag: 304, `"x", ` + etag: 304, "*": 304, `"x"`: 200} {
		reply := get(servertest.Header("If-None-Match", value))
		if reply.Status != want || reply.Header.Get("ETag") != etag || want == 304 && len(reply.Body) > 0 {
			t.Errorf("If-None-Match: %s: %d %v", value, reply.Status, reply.Header)
		}
	}
	reply := get(servertest.Header("Origin", "https://app.example.com"))
	if reply.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("scripts may not read it: %v", reply.Header)
	}
	agent.Revoke(tokens.Refresh)
	eventually(t, "the list has changed", func() bool {
		return get(servertest.Header("If-None-Match", etag)).Status == http.StatusOK
	})
	s.Clock.Advance(23 * time.Hour) // it is signed anew before it expires
	if revokedAt := revoked(t, s.Server, tokens.Access); !revokedAt {
		t.Error("the bit is gone")
	}
	for _, name := range []string{"g9", "m77", "x0", "g00", "g-1", "g", "g0x", "g9999999999999", "m1.5"} {
		reply := s.Agent(t, nil).Get(oauth.StatusPath + name)
		if reply.Status != http.StatusNotFound || reply.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", name, reply.Status, reply.Header)
		}
	}
}

// While the database is away, the last list is answered.
func TestStatusWithoutDatabase(t *testing.T) {
	s := open(t)
	agent := s.Agent(t, s.Client(servertest.Confidential))
	tokens := agent.Connect(s.browser, s.ada)
	agent.Revoke(tokens.Refresh)
	eventually(t, "it is revoked", func() bool { return revoked(t, s.Server, tokens.Access) })
	if err := s.DB.Close(); err != nil {
		t.Fatal(err)
	}
	if !revoked(t, s.Server, tokens.Access) {
		t.Error("the bit is gone")
	}
}
