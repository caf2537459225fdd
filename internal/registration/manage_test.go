package registration_test

import (
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// secretive returns the metadata of a client with a secret, changed by members.
func secretive(members map[string]any) map[string]any {
	m := servertest.Metadata(map[string]any{"token_endpoint_auth_method": "client_secret_basic"})
	for name, value := range members {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	return m
}

// manager returns an agent that manages its registration.
func manager(t testing.TB, s *servertest.Server, members map[string]any) *servertest.Agent {
	t.Helper()
	a := s.Agent(t, nil)
	servertest.Registered(t, a.Register(secretive(members)))
	return a
}

// change replaces the registration of a with members.
func change(a *servertest.Agent, members map[string]any, tweaks ...servertest.Tweak) *servertest.Reply {
	m := secretive(members)
	if _, ok := members["client_id"]; !ok {
		m["client_id"] = a.ClientID
	}
	return a.Registration(http.MethodPut, m, tweaks...)
}

// read returns the registration of a.
func read(t testing.TB, a *servertest.Agent) map[string]any {
	t.Helper()
	reply := a.Registration(http.MethodGet, nil)
	if reply.Status != http.StatusOK || !strings.Contains(reply.Header.Get("Cache-Control"), "no-store") {
		t.Fatalf("status %d, Cache-Control %q: %s", reply.Status, reply.Header.Get("Cache-Control"), reply.Body)
	}
	return reply.JSON()
}

func TestReadRegistration(t *testing.T) {
	s := servertest.StartWeather(t)
	a := s.Agent(t, nil)
	info := servertest.Registered(t,
		a.Register(secretive(map[string]any{"client_uri": "https://a.example/", "contacts": []string{"a@a.example"}})))
	delete(info, "client_secret") // because only its hash is stored
	delete(info, "client_secret_expires_at")
	if diff := cmp.Diff(info, read(t, a)); diff != "" {
		t.Errorf("what is read is not what was registered (-want +got):\n%s", diff)
	}
	s.Clock.Advance(23 * time.Hour)
	if diff := cmp.Diff(info, read(t, a)); diff != "" {
		t.Errorf("the token or the client changed by being read (-want +got):\n%s", diff)
	}
	if events := s.Events("client.read"); len(events) > 0 {
		t.Errorf("reading is recorded: %+v", events)
	}
}

// A public client that asks for it manages its registration, and is the same as no other.
func TestPublicManagement(t *testing.T) {
	s := servertest.StartWeather(t)
	ids := map[string]bool{}
	register := func(preferences ...string) *servertest.Agent {
		t.Helper()
		a := s.Agent(t, nil)
		a.Register(nil, servertest.Header("Prefer", preferences...))
		if a.ClientID == "" || ids[a.ClientID] {
			t.Errorf("client_id is %q", a.ClientID)
		}
		ids[a.ClientID] = true
		return a
	}
	plain := register("respond-async, return=minimal")
	if plain.RegistrationToken != "" {
		t.Error("a client that did not ask for it has a registration access token")
	}
	for _, preferences := range [][]string{{"registration-management"}, {"wait=5, Registration-Management ;x=1"},
		{"respond-async", "registration-management"}} {
		a := register(preferences...)
		if info := read(t, a); info["token_endpoint_auth_method"] != "none" || info["client_secret"] != nil {
			t.Errorf("%q: registered is %v", preferences, info)
		}
		again := s.Agent(t, nil)
		if again.Register(nil); again.ClientID != plain.ClientID || again.RegistrationToken != "" {
			t.Errorf("%q: the same metadata are the client %s with the token %q", preferences, again.ClientID,
				again.RegistrationToken)
		}
		if reply := a.Registration(http.MethodDelete, nil); reply.Status != http.StatusNoContent {
			t.Errorf("%q: deleting is answered with %d", preferences, reply.Status)
		}
		a.Registration(http.MethodGet, nil).Refused(http.StatusUnauthorized, "invalid_token")
	}
}

func TestStrangersAtRegistration(t *testing.T) {
	s := servertest.StartWeather(t)
	victim := manager(t, s, nil)
	attacker := manager(t, s, map[string]any{"client_name": "Evil"})
	public := s.Agent(t, nil)
	public.Register(nil)
	deleted := manager(t, s, nil)
	reply := deleted.Registration(http.MethodDelete, nil)
	if reply.Status != http.StatusNoContent || len(reply.Body) > 0 {
		t.Fatalf("status %d: %s", reply.Status, reply.Body)
	}
	disabled := manager(t, s, nil)
	s.Update(func(tx *store.Tx) error { return tx.DisableClient(disabled.ClientID) })
	operators := s.Client(servertest.Confidential)

	ids := map[string]string{
		"a client": victim.ClientID, "a public client": public.ClientID, "a client of the operator": operators.ID,
		"a deleted client": deleted.ClientID, "a disabled client": disabled.ClientID, "none": "mcp_none",
		"a strange id": "{client_id}", "a long id": strings.Repeat("a", 5000),
		"a document": "https:example.com",
	}
	tokens := map[string]servertest.Tweak{
		"no token":          servertest.Bearer(""),
		"an empty token":    servertest.Header("Authorization", "Bearer "),
		"Bearer alone":      servertest.Header("Authorization", "Bearer"),
		"a guess":           servertest.Bearer("cardea_rat_guessed"),
		"another's token":   servertest.Bearer(attacker.RegistrationToken),
		"a deleted one's":   servertest.Bearer(deleted.RegistrationToken),
		"a disabled one's":  servertest.Bearer(disabled.RegistrationToken),
		"its client secret": servertest.Bearer(victim.Secret),
		"its hash":          servertest.Bearer(s.ClientOf(victim.ClientID).RegistrationToken),
		"two tokens": servertest.Header("Authorization", "Bearer "+victim.RegistrationToken,
			"Bearer "+victim.RegistrationToken),
		"tokens in a list": servertest.Header("Authorization",
			"Bearer "+victim.RegistrationToken+", Bearer "+attacker.RegistrationToken),
		"another scheme":   servertest.Header("Authorization", "Basic "+victim.RegistrationToken),
		"a token cut":      servertest.Bearer(victim.RegistrationToken[:len(victim.RegistrationToken)-1]),
		"a token and more": servertest.Bearer(victim.RegistrationToken + " x"),
		"no ASCII":         servertest.Header("Authorization", "Bearer \xe9\xff"),
		"64 KB":            servertest.Bearer(strings.Repeat("a", 64<<10)),
	}
	var want *servertest.Reply
	for who, id := range ids {
		for with, token := range tokens {
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
				t.Run("DC-18 DC-17 "+method+" "+who+" with "+with, func(t *testing.T) {
					a := s.Agent(t, nil)
					a.ClientID = id
					var body any
					if method == http.MethodPut {
						body = servertest.Metadata(map[string]any{"client_id": id})
					}
					reply := a.Registration(method, body, token)
					reply.Refused(http.StatusUnauthorized, "invalid_token")
					challenge := `Bearer realm="cardea", error="invalid_token"`
					if with == "no token" {
						challenge = `Bearer realm="cardea"` // RFC 6750 §3.1
					}
					if got := reply.Header.Get("WWW-Authenticate"); got != challenge {
						t.Errorf("WWW-Authenticate is %q", got)
					}
					if want == nil {
						want = reply
					}
					if string(reply.Body) != string(want.Body) {
						t.Errorf("the response depends on whether the client exists: %s", reply.Body)
					}
				})
			}
		}
	}
	t.Run("DC-18 a path below", func(t *testing.T) {
		for _, path := range []string{
			victim.ClientID + "/x", victim.ClientID + "%2F", victim.ClientID + "%2Fx", "../register/" + victim.ClientID,
			"%6dcp_x",
		} {
			reply := victim.Get("/oauth2/register/"+path, servertest.Bearer(victim.RegistrationToken))
			if reply.Status != http.StatusNotFound && reply.Status != http.StatusUnauthorized {
				t.Errorf("%s: status %d", path, reply.Status)
			}
		}
	})
	t.Run("DC-18 nothing happened", func(t *testing.T) {
		read(t, victim)
		if s.ClientOf(victim.ClientID).Name != "Example agent" || s.ClientOf(public.ClientID) == nil ||
			s.ClientOf(operators.ID) == nil {
			t.Error("a client was changed")
		}
	})
	t.Run("DC-19 a disabled client stays so", func(t *testing.T) {
		if s.ClientOf(disabled.ClientID).DisabledAt.IsZero() {
			t.Error("it enabled itself")
		}
	})
	t.Run("in any case of the scheme", func(t *testing.T) {
		for _, header := range []string{"bearer ", "BEARER ", "Bearer   "} {
			reply := victim.Registration(http.MethodGet, nil,
				servertest.Header("Authorization", header+victim.RegistrationToken))
			if reply.Status != http.StatusOK {
				t.Errorf("%q: status %d", header, reply.Status)
			}
		}
	})
	t.Run("DC-18 guessing is limited, and does not fill the log", func(t *testing.T) {
		s := servertest.StartWeather(t, func(c *config.Config) { c.Limits.Enabled = true })
		a := manager(t, s, nil)
		turned := 0
		for range 400 {
			if a.Registration(http.MethodGet, nil,
				servertest.Bearer("cardea_rat_guessed")).Status == http.StatusTooManyRequests {
				turned++
			}
		}
		if events := len(s.Events("client.read")); turned == 0 || events > 310 {
			t.Errorf("%d refused with 429, %d audit events", turned, events)
		}
		read(t, a)
	})
}

func TestUpdateRegistration(t *testing.T) {
	s := servertest.StartWeather(t)
	t.Run("members that are left out are removed or return to their defaults", func(t *testing.T) {
		a := manager(t, s,
			map[string]any{"client_uri": "https://a.example/", "grant_types": []string{"authorization_code"},
				"scope": "mcp:tools:weather"})
		reply := change(a, map[string]any{"client_name": "Better", "token_endpoint_auth_method": nil})
		want := map[string]any{
			"client_id": a.ClientID, "client_id_issued_at": float64(storetest.Start.Unix()), "client_name": "Better",
			"redirect_uris": []any{servertest.Callback}, "grant_types": []any{"authorization_code", "refresh_token"},
			"response_types": []any{"code"}, "application_type": "web",
			"token_endpoint_auth_method": "client_secret_basic", "registration_access_token": a.RegistrationToken,
			"registration_client_uri": s.URL + "/oauth2/register/" + a.ClientID,
		}
		if diff := cmp.Diff(want, reply.JSON()); diff != "" || reply.Status != http.StatusOK {
			t.Errorf("status %d (-want +got):\n%s", reply.Status, diff)
		}
		if diff := cmp.Diff(want, read(t, a)); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
		a.Connect(s.Browser(t), s.User("update@example.com"))
	})
	t.Run("the secret may be repeated but not chosen", func(t *testing.T) {
		a := manager(t, s, nil)
		reply := change(a, map[string]any{"client_secret": a.Secret})
		if reply.Status != http.StatusOK || reply.Text("client_secret") != a.Secret ||
			reply.JSON()["client_secret_expires_at"] != 0. {
			t.Errorf("status %d: %s", reply.Status, reply.Body)
		}
		change(a, map[string]any{"client_secret": "chosen"}).Refused(400, "invalid_client_metadata")
		change(a, map[string]any{"client_secret": 5}).Refused(400, "invalid_client_metadata")
		other := manager(t, s, nil)
		change(a, map[string]any{"client_secret": other.Secret}).Refused(400, "invalid_client_metadata")
		a.Exchange("cardea_ac_x").Refused(400, "invalid_grant") // the secret did not change
	})
	refused := map[string]map[string]any{
		"client_id left out":        {"client_id": nil},
		"another's client_id":       {"client_id": "mcp_other"},
		"client_id as a number":     {"client_id": 5},
		"registration_access_token": {"registration_access_token": "x"},
		"registration_client_uri":   {"registration_client_uri": "https://evil.example/"},
		"client_secret_expires_at":  {"client_secret_expires_at": 0},
		"client_id_issued_at":       {"client_id_issued_at": 0},
		"DC-20 to a public client":  {"token_endpoint_auth_method": "none"},
		"DC-20 to a public client by default": {"token_endpoint_auth_method": nil,
			"redirect_uris": []string{"http://127.0.0.1/cb"}},
		"DC-20 to a client with a key": {"token_endpoint_auth_method": "private_key_jwt",
			"jwks_uri": "https://a.example/jwks"},
		"DC-20 to a client with a key, no key": {"token_endpoint_auth_method": "private_key_jwt"},
		"DC-20 to an unknown method":           {"token_endpoint_auth_method": "tls_client_auth"},
		"DC-20 redirect_uris left out":         {"redirect_uris": nil},
		"DC-20 grant_types without a code":     {"grant_types": []string{"client_credentials"}},
		"DC-20 grant_types that start nothing": {"grant_types": []string{"refresh_token"}},
		"DC-20 response_types":                 {"response_types": []string{"token"}},
		"DC-01 jwks_uri":                       {"jwks_uri": "file:///etc/passwd"},
		"DC-24 a secret key": {"jwks": map[string]any{"keys": []any{map[string]any{"kty": "oct",
			"k": "c2VjcmV0"}}}},
		"DC-25 jwks and jwks_uri": {"jwks": map[string]any{"keys": []any{}}, "jwks_uri": "https://a.example/jwks"},
	}
	for _, uri := range []string{
		"javascript:alert(1)", "data:text/html,x", "http://a.example/cb", "https://a.example/cb#x", s.URL + "/consent",
	} {
		refused["DC-01 DC-02 DC-04 "+uri] = map[string]any{"redirect_uris": []string{servertest.Callback, uri}}
	}
	for name, members := range refused {
		t.Run("refused: "+name, func(t *testing.T) {
			a := manager(t, s, map[string]any{"client_name": name[:min(len(name), 100)]})
			before := read(t, a)
			reply := change(a, members)
			code := "invalid_client_metadata"
			if _, ok := members["redirect_uris"]; ok && !strings.Contains(name, "default") {
				code = "invalid_redirect_uri"
			}
			reply.Refused(400, code)
			if diff := cmp.Diff(before, read(t, a)); diff != "" {
				t.Errorf("it changed something (-want +got):\n%s", diff)
			}
		})
	}
	for name, useless := range servertest.Useless {
		t.Run("dropped: "+name, func(t *testing.T) {
			a := manager(t, s, map[string]any{"client_uri": "https://a.example/", "contacts": []string{"b@a.example"}})
			change(a, nil)
			want := read(t, a)
			maps.Copy(want, useless.Kept)
			if reply := change(a, useless.Said); reply.Status != http.StatusOK {
				t.Fatalf("status %d: %s", reply.Status, reply.Body)
			}
			if diff := cmp.Diff(want, read(t, a)); diff != "" {
				t.Errorf("registered (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("DC-20 a public client by another name", func(t *testing.T) {
		a := manager(t, s, nil)
		reply := change(a, map[string]any{"token_endpoint_auth_methods_supported": []string{"none"}})
		if reply.Status != http.StatusOK {
			t.Fatalf("status %d: %s", reply.Status, reply.Body)
		}
		a.Secret = ""
		a.Exchange("cardea_ac_x").Refused(401, "invalid_client")
	})
	t.Run("DC-20 one secret method for the other", func(t *testing.T) {
		a := manager(t, s, nil)
		reply := change(a, map[string]any{"token_endpoint_auth_method": "client_secret_post"})
		if reply.Text("token_endpoint_auth_method") != "client_secret_post" {
			t.Errorf("status %d: %s", reply.Status, reply.Body)
		}
	})
	t.Run("DC-20 application_type alone", func(t *testing.T) {
		a := manager(t, s, nil)
		if reply := change(a, map[string]any{"application_type": "native"}); reply.Text("application_type") != "web" {
			t.Errorf("status %d: %s", reply.Status, reply.Body)
		}
	})
	t.Run("DC-08 privileges asked for", func(t *testing.T) {
		a := manager(t, s, nil)
		s.Update(func(tx *store.Tx) error {
			c, err := tx.Client(a.ClientID)
			if err != nil {
				return err
			}
			c.Allowed, c.Resources, c.AccessTTL = []string{"mcp:tools:weather"}, []string{servertest.MCP}, time.Minute
			return tx.UpdateClient(c)
		})
		before := s.ClientOf(a.ClientID)
		reply := change(a, map[string]any{
			"approved_at": "2001-01-01T00:00:00Z", "ApprovedAt": "2001-01-01T00:00:00Z", "origin": "operator",
			"allowed": []string{}, "Allowed": nil, "resources": []string{},
			"resource_servers": []string{servertest.MCP},
			"access_token_ttl": 86400, "used_at": 1, "secrets": []string{"x"}, "software_statement": "e30.e30.",
		})
		if reply.Status != http.StatusOK {
			t.Fatalf("status %d: %s", reply.Status, reply.Body)
		}
		if diff := cmp.Diff(before, s.ClientOf(a.ClientID)); diff != "" {
			t.Errorf("it got something (-before +after):\n%s", diff)
		}
	})
	t.Run("DC-22 the form of the body", func(t *testing.T) {
		a := manager(t, s, nil)
		body := func(text string, kind ...string) *servertest.Reply {
			return a.Registration(http.MethodPut, nil, servertest.Raw(text), servertest.Header("Content-Type", kind...))
		}
		good := fmt.Sprintf(`{"client_id":%q,"redirect_uris":["https://a.example/cb"]`, a.ClientID)
		body(good+`,"x":"`+strings.Repeat("a", 1<<20)+`"}`, "application/json").Refused(413, "invalid_client_metadata")
		body(good+"}", "text/plain").Refused(415, "invalid_client_metadata")
		body(good+`,"client_id":"mcp_other"}`, "application/json").Refused(400, "invalid_client_metadata")
		body(good+`,"redirect_uris":["https://evil.example/cb"]}`, "application/json").
			Refused(400, "invalid_client_metadata")
		body("[]", "application/json").Refused(400, "invalid_client_metadata")
		if reply := body(good+"}", "application/json; charset=utf-8"); reply.Status != http.StatusOK {
			t.Errorf("status %d: %s", reply.Status, reply.Body)
		}
	})
	t.Run("recorded", func(t *testing.T) {
		a := manager(t, s, nil)
		change(a, nil)
		change(a, map[string]any{"client_id": "x"})
		a.Registration(http.MethodDelete, nil)
		var got []string
		for _, event := range s.Events("client.")[:4] {
			got = append(got,
				fmt.Sprint(event.Action, " ", event.Outcome, " ", event.ClientID == a.ClientID, " ",
					event.Detail["by"]))
		}
		want := []string{"client.delete allowed true client", "client.update refused true client",
			"client.update allowed true client", "client.register allowed true "}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
	t.Run("DC-14 updates count for the share of the address", func(t *testing.T) {
		s := servertest.StartWeather(t, func(c *config.Config) { c.Limits.Enabled = true })
		a := manager(t, s, nil)
		turned := 0
		for range 100 {
			reply := change(a, nil)
			if reply.Status == http.StatusTooManyRequests && reply.Header.Get("Retry-After") != "" {
				turned++
			}
		}
		if turned < 30 {
			t.Errorf("%d refused with 429", turned)
		}
	})
}

// A registration counts against its sender's share only once but can be updated forever, so updates also have a common
// limit.
func TestUpdateFlood(t *testing.T) {
	s := servertest.StartWeather(t, func(c *config.Config) {
		c.Limits.Enabled, c.Limits.AllRegistrations = true, limit.Rate{Every: time.Minute, Burst: 10}
	})
	a := manager(t, s, nil)
	counts := map[int]int{}
	for i := range 30 {
		counts[change(a, map[string]any{"client_name": fmt.Sprint("Agent ", i)}).Status]++
	}
	if counts[http.StatusOK] < 10 || counts[http.StatusOK] > 11 ||
		counts[http.StatusTooManyRequests] != 30-counts[http.StatusOK] {
		t.Errorf("answers by status: %v, want ten updates or so, and 429 for the others", counts)
	}
	if updates := len(s.Events("client.update")); updates > counts[http.StatusOK]+1 {
		t.Errorf("%d audit events", updates)
	}
	s.Clock.Advance(time.Minute)
	if reply := change(a, nil); reply.Status != http.StatusOK {
		t.Errorf("a minute later the status is %d", reply.Status)
	}
}

func TestUpdateAndConsent(t *testing.T) {
	approve := func(s *servertest.Server, a *servertest.Agent) {
		s.Update(func(tx *store.Tx) error {
			c, err := tx.Client(a.ClientID)
			if err != nil {
				return err
			}
			c.ApprovedAt = tx.Now()
			return tx.UpdateClient(c)
		})
	}
	changes := map[string]struct {
		members map[string]any
		kept    bool
		from    map[string]any
	}{
		"nothing": {kept: true},
		"the contacts": {members: map[string]any{"contacts": []string{"new@a.example"},
			"software_version": "2"}, kept: true},
		"the redirect URIs": {
			members: map[string]any{"redirect_uris": []string{"https://evil.example/cb"}}, kept: false,
		},
		"one more redirect URI": {members: map[string]any{"redirect_uris": []string{servertest.Callback,
			"https://evil.example/cb"}}, kept: false},
		"the name":           {members: map[string]any{"client_name": "Your bank"}, kept: false},
		"the link":           {members: map[string]any{"client_uri": "https://bank.example/"}, kept: false},
		"the logo":           {members: map[string]any{"logo_uri": "https://bank.example/logo.png"}, kept: false},
		"the terms":          {members: map[string]any{"tos_uri": "https://bank.example/"}, kept: false},
		"the privacy policy": {members: map[string]any{"policy_uri": "https://bank.example/"}, kept: false},
		"the redirects' order": {
			members: map[string]any{"redirect_uris": []string{servertest.Callback}}, kept: true,
		},
		"scope that binds nobody": {members: map[string]any{"scope": "admin"}, kept: true},
		"to one grant type more": {from: map[string]any{"grant_types": []string{"authorization_code"}},
			members: map[string]any{"grant_types": []string{"authorization_code", "refresh_token"}}},
		"to one grant type less": {members: map[string]any{"grant_types": []string{"authorization_code"}}, kept: true},
	}
	for name, c := range changes {
		t.Run("DC-21 an approved client changes "+name, func(t *testing.T) {
			s := servertest.StartWeather(t)
			ada, browser := s.User("ada@example.com"), s.Browser(t)
			a := manager(t, s, c.from)
			approve(s, a)
			a.Connect(browser, ada)
			if page := browser.Authorize(a.Authorization()); page.Location == "" {
				t.Fatal("the consent is not remembered to begin with")
			}
			s.Clock.Advance(time.Minute)
			if reply := change(a, c.members); reply.Status != http.StatusOK {
				t.Fatalf("status %d: %s", reply.Status, reply.Body)
			}
			if got := s.ClientOf(a.ClientID).Approved(); got != c.kept {
				t.Errorf("approved: %v, want %v", got, c.kept)
			}
			if uris, ok := c.members["redirect_uris"].([]string); ok {
				a.RedirectURI = uris[0]
			}
			if page := browser.Authorize(a.Authorization()); page.IsConsent() == c.kept {
				t.Errorf("consent is asked for: %v", page.IsConsent())
			}
			if c.kept {
				return
			}
			approve(s, a) // the operator approved it again
			page := browser.Authorize(a.Authorization())
			if moved := c.members["redirect_uris"] != nil; page.IsConsent() != moved {
				t.Errorf("consent is asked for: %v, want it for other redirect URIs alone", page.IsConsent())
			}
		})
	}
	t.Run("DC-21 a code in flight", func(t *testing.T) {
		s := servertest.StartWeather(t)
		ada, browser := s.User("ada@example.com"), s.Browser(t)
		a := manager(t, s, nil)
		code := browser.Authorize(a.Authorization()).Through(ada).Code()
		change(a, map[string]any{"redirect_uris": []string{"https://elsewhere.example/cb"}})
		a.Exchange(code, servertest.With("redirect_uri", "https://elsewhere.example/cb")).Refused(400, "invalid_grant")
		a.Exchange(code).Refused(400, "invalid_grant") // its redirect URI is no longer the client's
	})
	t.Run("DC-21 a consent page that is open", func(t *testing.T) {
		s := servertest.StartWeather(t)
		ada, browser := s.User("ada@example.com"), s.Browser(t)
		a := manager(t, s, nil)
		page := browser.Authorize(a.Authorization()).SignIn(ada)
		change(a, map[string]any{"redirect_uris": []string{"https://elsewhere.example/cb"}})
		page.Allow().ErrorPage(http.StatusBadRequest)
	})
}

func TestDeleteRegistration(t *testing.T) {
	s := servertest.StartWeather(t)
	ada, browser := s.User("ada@example.com"), s.Browser(t)
	a := manager(t, s, nil)
	rs := s.Agent(t, s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP)))
	tokens := a.Connect(browser, ada)
	code := browser.Authorize(a.Authorization()).Through(ada).Code()
	open := browser.Authorize(a.Authorization())
	if !rs.Active(tokens.Access) {
		t.Fatal("the token is not active to begin with")
	}
	reply := a.Registration(http.MethodDelete, nil)
	if reply.Status != http.StatusNoContent || len(reply.Body) > 0 ||
		!strings.Contains(reply.Header.Get("Cache-Control"), "no-store") {
		t.Fatalf("status %d: %s", reply.Status, reply.Body)
	}
	t.Run("DC-29 its grants and tokens are gone", func(t *testing.T) {
		if rs.Active(tokens.Access) {
			t.Error("the access token is active")
		}
		a.Refresh(tokens.Refresh).Refused(401, "invalid_client")
		a.Exchange(code).Refused(401, "invalid_client")
		if open.Location == "" {
			open.Allow().ErrorPage(http.StatusBadRequest)
		}
		browser.Authorize(a.Authorization()).ErrorPage(http.StatusBadRequest)
	})
	t.Run("DC-29 once", func(t *testing.T) {
		for _, method := range []string{http.MethodDelete, http.MethodGet} {
			a.Registration(method, nil).Refused(401, "invalid_token")
		}
		change(a, nil).Refused(401, "invalid_token")
	})
	t.Run("DC-29 forgotten", func(t *testing.T) {
		s := servertest.StartWeather(t)
		a := manager(t, s, nil)
		s.Clock.Advance(25 * time.Hour)
		if _, err := s.DB.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.Registration(http.MethodGet, nil).Refused(401, "invalid_token")
	})
}

// admit creates an initial access token.
func admit(s *servertest.Server, edit func(*oauth.InitialAccessToken)) (token, id string) {
	token = oauth.NewSecret(oauth.InitialTokenPrefix)
	made := &oauth.InitialAccessToken{ID: oauth.NewID("iat_"), Hash: oauth.Hash(token), Name: "Test",
		CreatedAt: s.DB.Now()}
	if edit != nil {
		edit(made)
	}
	s.Update(func(tx *store.Tx) error { return tx.CreateInitialToken(made) })
	return token, made.ID
}

// byToken is an edit of the configuration: registration needs an initial access token.
func byToken(c *config.Config) { c.Registration.DCR = "token" }

func TestInitialAccessToken(t *testing.T) {
	s := servertest.StartWeather(t, byToken)
	now := s.DB.Now()
	live, liveID := admit(s, nil)
	expired, _ := admit(s, func(t *oauth.InitialAccessToken) { t.ExpiresAt = now })
	used, _ := admit(s, func(t *oauth.InitialAccessToken) { t.Uses, t.MaxUses = 1, 1 })
	revoked, _ := admit(s, func(t *oauth.InitialAccessToken) { t.RevokedAt = now })
	refused := map[string]servertest.Tweak{
		"absent":              servertest.Bearer(""),
		"expired":             servertest.Bearer(expired),
		"used up":             servertest.Bearer(used),
		"revoked":             servertest.Bearer(revoked),
		"a guess":             servertest.Bearer("cardea_iat_guessed"),
		"its id":              servertest.Bearer(liveID),
		"its hash":            servertest.Bearer(oauth.Hash(live)),
		"cut":                 servertest.Bearer(live[:len(live)-1]),
		"Bearer alone":        servertest.Header("Authorization", "Bearer"),
		"Bearer and a space":  servertest.Header("Authorization", "Bearer "),
		"without a space":     servertest.Header("Authorization", "Bearer"+live),
		"a tab":               servertest.Header("Authorization", "Bearer\t"+live),
		"two headers":         servertest.Header("Authorization", "Bearer "+live, "Bearer "+live),
		"a list":              servertest.Header("Authorization", "Bearer "+live+",Bearer "+live),
		"parameters":          servertest.Header("Authorization", "Bearer token="+live),
		"another scheme":      servertest.Header("Authorization", "Basic "+live),
		"no scheme":           servertest.Header("Authorization", live),
		"no ASCII":            servertest.Header("Authorization", "Bearer \xe9\xff"),
		"64 KB":               servertest.Bearer(strings.Repeat("a", 64<<10)),
		"registration's own":  servertest.Bearer(oauth.NewSecret(oauth.RegistrationTokenPrefix)),
		"in the query, as if": servertest.Header("X-Authorization", "Bearer "+live),
	}
	for name, token := range refused {
		t.Run("DC-17 "+name, func(t *testing.T) {
			// the response does not depend on the body
			for _, body := range []map[string]any{servertest.Metadata(nil), secretive(nil), {"redirect_uris": 5}} {
				reply := s.Agent(t, nil).Register(body, token)
				reply.Refused(http.StatusUnauthorized, "invalid_token")
				if got := reply.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer ") {
					t.Errorf("WWW-Authenticate is %q", got)
				}
			}
			if event := s.Events("client.register")[0]; event.Detail["cause"] == "" {
				t.Errorf("the event does not have the cause: %+v", event)
			}
		})
	}
	t.Run("live", func(t *testing.T) {
		for range 3 {
			servertest.Registered(t, s.Agent(t, nil).Register(servertest.Metadata(nil), servertest.Bearer(live)))
			servertest.Registered(t, s.Agent(t, nil).Register(secretive(nil), servertest.Bearer(live)))
		}
		servertest.Registered(t,
			s.Agent(t, nil).Register(servertest.Metadata(nil), servertest.Header("Authorization", "bEARER  "+live)))
		event := s.Events("client.register")[0]
		if event.Detail["initial_access_token"] != liveID || event.Outcome != "allowed" {
			t.Errorf("the event does not name the token: %+v", event)
		}
		storetest.SecretsAtRest(t, s.DB, map[string]string{"initial access token": live})
	})
	t.Run("DC-17 what is refused costs no use", func(t *testing.T) {
		once, _ := admit(s, func(t *oauth.InitialAccessToken) { t.MaxUses = 1 })
		a := s.Agent(t, nil)
		a.Register(servertest.Metadata(map[string]any{"redirect_uris": []string{"http://a.example/"}}),
			servertest.Bearer(once)).Refused(400, "invalid_redirect_uri")
		a.RegisterRaw("text/plain", "{}").Refused(401, "invalid_token")
		servertest.Registered(t,
			a.Register(servertest.Metadata(map[string]any{"client_name": "Once"}), servertest.Bearer(once)))
		a.Register(servertest.Metadata(map[string]any{"client_name": "Once"}), servertest.Bearer(once)).
			Refused(401, "invalid_token")
	})
	t.Run("it expires, and is revoked", func(t *testing.T) {
		short, id := admit(s, func(t *oauth.InitialAccessToken) { t.ExpiresAt = now.Add(time.Minute) })
		servertest.Registered(t, s.Agent(t, nil).Register(nil, servertest.Bearer(short)))
		s.Clock.Advance(time.Minute)
		s.Agent(t, nil).Register(nil, servertest.Bearer(short)).Refused(401, "invalid_token")
		s.Clock.Set(now)
		servertest.Registered(t, s.Agent(t, nil).Register(nil, servertest.Bearer(short)))
		s.Update(func(tx *store.Tx) error {
			_, err := tx.RevokeInitialToken(id)
			return err
		})
		s.Agent(t, nil).Register(nil, servertest.Bearer(short)).Refused(401, "invalid_token")
	})
	t.Run("it manages nothing", func(t *testing.T) {
		a := s.Agent(t, nil)
		a.Register(secretive(nil), servertest.Bearer(live))
		a.Registration(http.MethodGet, nil, servertest.Bearer(live)).Refused(401, "invalid_token")
		read(t, a)
	})
	t.Run("the endpoint is advertised", func(t *testing.T) {
		got := s.Agent(t, nil).Get("/.well-known/oauth-authorization-server").Text("registration_endpoint")
		if got != s.URL+"/oauth2/register" {
			t.Errorf("registration_endpoint is %q", got)
		}
	})
	t.Run("where everybody may register it is not looked at", func(t *testing.T) {
		s := servertest.StartWeather(t)
		once, id := admit(s, func(t *oauth.InitialAccessToken) { t.MaxUses = 1 })
		for _, token := range []string{once, once, "cardea_iat_guessed"} {
			servertest.Registered(t, s.Agent(t, nil).Register(nil, servertest.Bearer(token)))
		}
		s.Update(func(tx *store.Tx) error {
			got, err := tx.InitialToken(id)
			if got.Uses != 0 {
				t.Errorf("%d uses", got.Uses)
			}
			return err
		})
	})
	t.Run("off", func(t *testing.T) {
		s := servertest.StartWeather(t, func(c *config.Config) { c.Registration.DCR = "off" })
		token, _ := admit(s, nil)
		for _, path := range []string{"/oauth2/register", "/register", "/oauth2/register/mcp_x"} {
			if reply := s.Agent(t, nil).Post(path, nil, servertest.Bearer(token)); reply.Status != http.StatusNotFound {
				t.Errorf("%s: status %d", path, reply.Status)
			}
		}
	})
}

func TestInitialAccessTokenRace(t *testing.T) {
	const racers, rounds = 50, 6
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock, byToken)
		bodies := map[string]func(round int) map[string]any{
			"clients with a secret": func(int) map[string]any { return secretive(nil) },
			"one public client": func(round int) map[string]any {
				return servertest.Metadata(map[string]any{"client_name": fmt.Sprint(round)})
			},
			"a public client, known": func(int) map[string]any {
				return servertest.Metadata(map[string]any{"client_name": "Known"})
			},
		}
		for name, body := range bodies {
			t.Run("DC-17 the last use is raced by "+name, func(t *testing.T) {
				for round := range rounds {
					token, id := admit(s, func(t *oauth.InitialAccessToken) { t.Uses, t.MaxUses = 2, 3 })
					var created, refused atomic.Int64
					var ready, done sync.WaitGroup
					start := make(chan struct{})
					ready.Add(racers)
					for range racers {
						done.Go(func() {
							a := s.Agent(t, nil)
							ready.Done()
							<-start
							switch a.Register(body(round), servertest.Bearer(token)).Status {
							case http.StatusCreated:
								created.Add(1)
							case http.StatusUnauthorized:
								refused.Add(1)
							}
						})
					}
					ready.Wait()
					close(start)
					done.Wait()
					if created.Load() != 1 || refused.Load() != racers-1 {
						t.Fatalf("%d registered, %d refused", created.Load(), refused.Load())
					}
					s.Update(func(tx *store.Tx) error {
						got, err := tx.InitialToken(id)
						if got.Uses != 3 {
							t.Errorf("%d uses", got.Uses)
						}
						return err
					})
				}
			})
		}
	})
}

func TestManageByKey(t *testing.T) {
	s := servertest.StartWeather(t)
	key := servertest.NewKey(t, "one", "ES256")
	set := servertest.KeySet(t, key)
	a := s.Agent(t, nil)
	signed := map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": set}
	info := servertest.Registered(t, a.Register(secretive(signed)))
	if _, ok := info["jwks"]; ok {
		t.Error("the response to a registration has jwks, on which the Go SDK fails")
	}
	t.Run("what is read can be sent back", func(t *testing.T) {
		m := read(t, a)
		for _, name := range []string{"registration_access_token", "registration_client_uri", "client_id_issued_at"} {
			delete(m, name)
		}
		if reply := a.Registration(http.MethodPut, m); reply.Status != http.StatusOK {
			t.Errorf("status %d: %s", reply.Status, reply.Body)
		}
	})
	t.Run("DC-20 its keys left out", func(t *testing.T) {
		change(a, map[string]any{"token_endpoint_auth_method": "private_key_jwt"}).
			Refused(400, "invalid_client_metadata")
	})
	t.Run("DC-20 to a secret", func(t *testing.T) {
		change(a, nil).Refused(400, "invalid_client_metadata")
	})
	t.Run("DC-21 an approved client changes its keys", func(t *testing.T) {
		s.Update(func(tx *store.Tx) error {
			c, err := tx.Client(a.ClientID)
			if err != nil {
				return err
			}
			c.ApprovedAt = tx.Now()
			return tx.UpdateClient(c)
		})
		s.Clock.Advance(time.Minute)
		other := servertest.KeySet(t, servertest.NewKey(t, "two", "ES256"))
		reply := change(a, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": other})
		if reply.Status != http.StatusOK {
			t.Fatalf("status %d: %s", reply.Status, reply.Body)
		}
		if c := s.ClientOf(a.ClientID); c.Approved() || !c.ChangedAt.Equal(s.DB.Now()) {
			t.Errorf("approved %v, changed %v", c.ApprovedAt, c.ChangedAt)
		}
	})
}

func TestRegistrationRaces(t *testing.T) {
	const racers, rounds = 40, 4
	// race runs do at once, and returns how many answers had each status.
	race := func(do func(i int) *servertest.Reply) map[int]int {
		statuses := map[int]int{}
		for _, reply := range servertest.AtOnce(racers, do) {
			statuses[reply.Status]++
		}
		return statuses
	}
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock)
		t.Run("a public client that registers many times at once is one", func(t *testing.T) {
			for round := range rounds {
				var ids sync.Map
				got := race(func(int) *servertest.Reply {
					a := s.Agent(t, nil)
					reply := a.Register(servertest.Metadata(map[string]any{"client_name": fmt.Sprint(round)}))
					ids.Store(a.ClientID, true)
					return reply
				})
				n := 0
				ids.Range(func(any, any) bool { n++; return true })
				if got[http.StatusCreated] != racers || n != 1 {
					t.Fatalf("%v, %d clients", got, n)
				}
			}
		})
		t.Run("DC-29 a registration is deleted once, while it is updated and read", func(t *testing.T) {
			for range rounds {
				a := manager(t, s, nil)
				var deleted atomic.Int64
				got := race(func(i int) *servertest.Reply {
					switch i % 3 {
					case 0:
						return change(a,
							map[string]any{"redirect_uris": []string{fmt.Sprintf("https://a.example/%d", i)}})
					case 1:
						return a.Registration(http.MethodGet, nil)
					}
					reply := a.Registration(http.MethodDelete, nil)
					if reply.Status == http.StatusNoContent {
						deleted.Add(1)
					}
					return reply
				})
				if deleted.Load() != 1 || got[http.StatusOK]+got[http.StatusUnauthorized]+1 != racers {
					t.Fatalf("deleted %d times: %v", deleted.Load(), got)
				}
				a.Registration(http.MethodGet, nil).Refused(401, "invalid_token")
			}
		})
	})
}
