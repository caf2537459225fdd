package login_test

import (
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// connect lets an agent in for a person who signs in with the provider, and returns it with its tokens.
func connect(t *testing.T, s *servertest.Server, at visitor) (*servertest.Agent, servertest.Tokens) {
	t.Helper()
	agent := s.Agent(t, s.Client())
	b := s.Browser(t)
	page := b.Authorize(agent.Authorization())
	page = page.Follow(way(t, page, "corp"))
	u, err := url.Parse(fromElsewhere(b, at.Visit(page.Location)).Allow().Location)
	if err != nil {
		t.Fatal(err)
	}
	return agent, agent.Exchange(u.Query().Get("code")).Tokens()
}

// active reports whether an access token works.
func active(t *testing.T, s *servertest.Server, token string) bool {
	t.Helper()
	return s.Agent(t, s.Client(servertest.ResourceServer(servertest.MCP), servertest.Confidential)).Active(token)
}

// credentials returns what is stored to ask the providers about the user with that address.
func credentials(t *testing.T, s *servertest.Server, email string) (all []string) {
	t.Helper()
	s.Update(func(tx *store.Tx) error {
		u, err := tx.UserByEmail(email)
		if err != nil {
			return err
		}
		identities, err := tx.Identities(u.ID)
		for _, i := range identities {
			all = append(all, i.Credential)
		}
		return err
	})
	return all
}

func TestCheckAtRefresh(t *testing.T) {
	checked := func(c *upstream.Config) { c.CheckAtRefresh = true }
	start := func(t *testing.T, edits ...func(*upstream.Config)) (*upstreamtest.Issuer, *servertest.Server) {
		issuer := upstreamtest.NewIssuer(t, "")
		issuer.SignIn(ada)
		s := servertest.StartWeather(t, servertest.Provider(servertest.Corp(issuer.URL), append(edits, checked)...))
		s.MayFault = true // for 503
		return issuer, s
	}
	t.Run("an agent goes on while the provider knows the person", func(t *testing.T) {
		issuer, s := start(t)
		agent, tokens := connect(t, s, issuer)
		for range 3 { // the provider's own refresh token is good for one use
			tokens = agent.Refresh(tokens.Refresh).Tokens()
		}
	})
	t.Run("a refusal ends the grant and its live tokens", func(t *testing.T) {
		issuer, s := start(t)
		agent, tokens := connect(t, s, issuer)
		other, others := connect(t, s, issuer)
		if !active(t, s, tokens.Access) {
			t.Fatal("the token does not work")
		}
		issuer.Forget("ada-at-corp")
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		if active(t, s, tokens.Access) {
			t.Error("the access token still works")
		}
		issuer.SignIn(ada)
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		other.Refresh(others.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	})
	t.Run("a person who is not asked about goes on", func(t *testing.T) {
		issuer := upstreamtest.NewIssuer(t, "")
		issuer.SignIn(ada)
		s := servertest.StartWeather(t, servertest.Provider(servertest.Corp(issuer.URL)))
		agent, tokens := connect(t, s, issuer)
		issuer.Forget("ada-at-corp")
		issuer.Stop()
		agent.Refresh(tokens.Refresh).Tokens()
	})
	t.Run("while the provider is away, grants go on for offline_grace", func(t *testing.T) {
		issuer, s := start(t)
		agent, tokens := connect(t, s, issuer)
		away := true
		var mu sync.Mutex
		issuer.Misbehave(upstreamtest.Hooks{Answer: func(w http.ResponseWriter, _ *http.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if away {
				w.WriteHeader(http.StatusBadGateway)
			}
			return away
		}})
		tokens = agent.Refresh(tokens.Refresh).Tokens()
		s.Clock.Advance(24*time.Hour - time.Second)
		tokens = agent.Refresh(tokens.Refresh).Tokens()
		s.Clock.Advance(time.Second)
		agent.Refresh(tokens.Refresh).Refused(http.StatusServiceUnavailable, "temporarily_unavailable")
		mu.Lock()
		away = false
		mu.Unlock()
		tokens = agent.Refresh(tokens.Refresh).Tokens() // the grant has not ended
		mu.Lock()
		away = true
		mu.Unlock()
		s.Clock.Advance(time.Hour)
		agent.Refresh(tokens.Refresh).Tokens()
	})
	t.Run("an answer that is about somebody else is a refusal", func(t *testing.T) {
		issuer, s := start(t)
		agent, tokens := connect(t, s, issuer)
		issuer.Misbehave(upstreamtest.Hooks{IDToken: func(c upstreamtest.Claims) { c["sub"] = "eve" }})
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	})
	t.Run("parallel refreshes ask once at a time", func(t *testing.T) {
		issuer, s := start(t)
		agents, tokens := make([]*servertest.Agent, 6), make([]servertest.Tokens, 6)
		for i := range agents {
			agents[i], tokens[i] = connect(t, s, issuer)
		}
		var wait sync.WaitGroup
		for i, agent := range agents {
			wait.Go(func() { agent.Refresh(tokens[i].Refresh).Tokens() })
		}
		wait.Wait()
	})
	t.Run("a stranger makes nobody ask", func(t *testing.T) {
		issuer, s := start(t)
		_, tokens := connect(t, s, issuer)
		asked := false
		issuer.Misbehave(upstreamtest.Hooks{Answer: func(http.ResponseWriter, *http.Request) bool {
			asked = true
			return false
		}})
		s.Agent(t, s.Client()).Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
		s.Agent(t, s.Client()).Refresh(tokens.Refresh+"x").Refused(http.StatusBadRequest, "invalid_grant")
		if asked {
			t.Error("the provider was asked")
		}
	})
	t.Run("GitHub", func(t *testing.T) {
		hub := upstreamtest.NewGitHub(t)
		hub.SignIn(upstreamtest.GitHubAccount{ID: 42, Login: "ada", Emails: []upstreamtest.Claims{}})
		c := servertest.Corp(hub.URL)
		c.Preset = "github"
		s := servertest.StartWeather(t, servertest.Provider(c, checked))
		agent, tokens := connect(t, s, hub)
		tokens = agent.Refresh(tokens.Refresh).Tokens()
		hub.Forget()
		agent.Refresh(tokens.Refresh).Refused(http.StatusBadRequest, "invalid_grant")
	})
	t.Run("what is kept of the provider is sealed", func(t *testing.T) {
		issuer, s := start(t)
		connect(t, s, issuer)
		_, n := userOf(t, s, "ada@example.com")
		if n != 1 {
			t.Fatal("no identity")
		}
		for _, credential := range credentials(t, s, "ada@example.com") {
			if credential == "" || len(credential) < 60 || credential[0] == '{' {
				t.Errorf("the credential is %q", credential)
			}
		}
	})
}
