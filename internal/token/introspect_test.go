package token_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

func TestIntrospect(t *testing.T) {
	s := open(t)
	owner, stranger, public := s.Client(servertest.Confidential), s.Client(servertest.Confidential), s.Client()
	resource := s.Client(servertest.Confidential, servertest.ResourceServer(servertest.MCP))
	both := s.Client(servertest.Confidential, servertest.ResourceServer(other, servertest.MCP))
	elsewhere := s.Client(servertest.Confidential, servertest.ResourceServer(other))
	tokens := s.Agent(t, owner).Connect(s.browser, s.ada, servertest.With("scope", "weather mail"))
	inactive := func(t *testing.T, reply *servertest.Reply) {
		t.Helper()
		status(t, reply, http.StatusOK)
		if got := strings.TrimSpace(string(reply.Body)); got != `{"active":false}` {
			t.Errorf("the answer is %s, want that the token is not active", got)
		}
		if !strings.Contains(reply.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("IR-14 Cache-Control is %q, want no-store", reply.Header.Get("Cache-Control"))
		}
	}

	t.Run("IR-05 IR-14 the resource asks", func(t *testing.T) {
		reply := s.Agent(t, resource).Introspect(tokens.Access)
		claims := servertest.Claims(t, tokens.Access)
		want := map[string]any{
			"active": true, "scope": "weather mail", "client_id": owner.ID, "token_type": "Bearer", "sub": s.ada.ID,
			"aud": servertest.MCP, "iss": s.URL, "exp": float64(claims.Expiry), "iat": float64(claims.IssuedAt),
			"jti": claims.ID,
		}
		if diff := cmp.Diff(want, reply.JSON()); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
		if !strings.Contains(reply.Header.Get("Cache-Control"), "no-store") {
			t.Errorf("IR-14 Cache-Control is %q, want no-store", reply.Header.Get("Cache-Control"))
		}
	})
	t.Run("one client for several resources", func(t *testing.T) {
		agent := s.Agent(t, owner)
		agent.Resource = other
		there := agent.Connect(s.browser, s.ada)
		for name, token := range map[string]string{servertest.MCP: tokens.Access, other: there.Access} {
			reply := s.Agent(t, both).Introspect(token)
			if reply.JSON()["active"] != true || reply.Text("aud") != name {
				t.Errorf("the answer for %s is %s", name, reply.Body)
			}
		}
		inactive(t, s.Agent(t, resource).Introspect(there.Access))
		inactive(t, s.Agent(t, both).Introspect(there.Refresh))
		s.Resource("https://third.example.com/mcp", "*files")
		agent.Resource = "https://third.example.com/mcp"
		inactive(t, s.Agent(t, both).Introspect(agent.Connect(s.browser, s.ada).Access))
		// A part of an identifier is not one.
		s.Resource(servertest.MCP+"/deep", "*files")
		agent.Resource = servertest.MCP + "/deep"
		inactive(t, s.Agent(t, both).Introspect(agent.Connect(s.browser, s.ada).Access))
	})
	t.Run("the client itself asks", func(t *testing.T) {
		agent := s.Agent(t, owner)
		if !agent.Active(tokens.Access) || !agent.Active(tokens.Refresh) {
			t.Error("a token is not active, want both active")
		}
	})
	t.Run("a resource cannot introspect refresh tokens", func(t *testing.T) {
		inactive(t, s.Agent(t, resource).Introspect(tokens.Refresh))
	})
	for _, test := range []struct {
		name  string
		tweak servertest.Tweak
	}{
		{"IR-01 without credentials", servertest.Without("client_id")},
		{"IR-02 a public client", servertest.With("client_id", public.ID)},
		{"IR-01 a wrong secret", basic(resource.ID, "wrong")},
		{"IR-01 an access token as credentials", servertest.Header("Authorization", "Bearer "+tokens.Access)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.Agent(t, nil).Introspect(tokens.Access, test.tweak).Refused(http.StatusUnauthorized, "invalid_client")
		})
	}
	for who, asker := range map[string]*servertest.Client{"another resource": elsewhere, "another client": stranger} {
		for _, accept := range []string{"application/json", "application/token-introspection+jwt", "*/*"} {
			t.Run("IR-04 "+who+" asks for "+accept, func(t *testing.T) {
				inactive(t, s.Agent(t, asker).Introspect(tokens.Access, servertest.Header("Accept", accept)))
				inactive(t, s.Agent(t, asker).Introspect(tokens.Refresh, servertest.Header("Accept", accept)))
			})
		}
	}
	for _, hint := range []string{"access_token", "refresh_token", "nonsense", ""} {
		t.Run("IR-08 hint "+hint, func(t *testing.T) {
			agent := s.Agent(t, owner)
			for _, token := range []string{tokens.Access, tokens.Refresh} {
				with, without := agent.Introspect(token,
					servertest.With("token_type_hint", hint)), agent.Introspect(token)
				if diff := cmp.Diff(without.JSON(), with.JSON()); diff != "" {
					t.Errorf("answer (-without +with):\n%s", diff)
				}
			}
		})
	}
	t.Run("IR-09 GET", func(t *testing.T) {
		agent := s.Agent(t, resource)
		status(t, agent.Introspect(tokens.Access, servertest.Method(http.MethodGet)), http.StatusMethodNotAllowed)
	})
	t.Run("IR-09 token in the query", func(t *testing.T) {
		agent := s.Agent(t, resource)
		agent.Introspect("", func(r *servertest.Request) { r.URL += "?token=" + tokens.Access },
			servertest.Without("token")).Refused(http.StatusBadRequest, "invalid_request")
	})
	t.Run("IR-06 no token", func(t *testing.T) {
		s.Agent(t, resource).Introspect("").Refused(http.StatusBadRequest, "invalid_request")
	})
	t.Run("IR-06 IR-10 garbage", func(t *testing.T) {
		parts := strings.Split(tokens.Access, ".")
		garbage := append(mutations(tokens.Refresh),
			"x", "..", strings.Repeat("a.", 1000), strings.Repeat("A", 32<<10), "cardea_rt_", "cardea_rt_a_1_b", "\xff",
			parts[0]+"."+parts[1]+".", parts[0]+"."+parts[1], "."+parts[1]+"."+parts[2], tokens.Access+"A",
			tokens.Access+".", tokens.Access[:len(tokens.Access)-2],
			"eyJhbGciOiJub25lIn0."+parts[1]+".", parts[0]+"."+parts[1]+"."+strings.Repeat("A", len(parts[2])))
		agent := s.Agent(t, owner)
		for _, token := range garbage {
			if token == "\xff" {
				agent.Introspect(token).Refused(http.StatusBadRequest, "invalid_request")
				continue
			}
			inactive(t, agent.Introspect(token))
		}
		inactive(t, agent.Introspect(strings.Repeat("A", 1<<20)))
		stranger := &servertest.Client{Client: owner.Client, Secret: "wrong"}
		s.Agent(t, stranger).Introspect(strings.Repeat("A", 1<<20)).Refused(http.StatusUnauthorized, "invalid_client")
	})
	t.Run("IR-06 expired", func(t *testing.T) {
		agent := s.Agent(t, owner)
		tokens := agent.Connect(s.browser, s.ada)
		s.Clock.Advance(time.Duration(tokens.ExpiresIn)*time.Second - time.Second)
		if !agent.Active(tokens.Access) {
			t.Error("the access token is not active, want it active until it expires")
		}
		s.Clock.Advance(time.Second)
		inactive(t, agent.Introspect(tokens.Access))
	})
	t.Run("IR-06 a refresh token that was used", func(t *testing.T) {
		agent := s.Agent(t, owner)
		tokens := agent.Connect(s.browser, s.ada)
		agent.Refresh(tokens.Refresh).Tokens()
		inactive(t, agent.Introspect(tokens.Refresh))
	})
	t.Run("IR-12 flood", func(t *testing.T) {
		s := open(t, func(c *config.Config) { c.Limits.Enabled = true })
		agent := s.Agent(t, s.Client(servertest.Confidential))
		tokens := agent.Connect(s.browser, s.ada)
		for range 400 { // active tokens are not limited
			if !agent.Active(tokens.Access) {
				t.Fatal("the access token is not active, want it active")
			}
		}
		agent.Secret = "wrong"
		for range 1000 {
			if reply := agent.Introspect(tokens.Access); reply.Status == http.StatusTooManyRequests {
				return
			}
		}
		t.Error("never refused with 429")
	})
}

func TestRevoke(t *testing.T) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run("RV-01 a refresh token, at both nodes/"+string(engine), func(t *testing.T) {
			w := start(t, engine, 30*time.Second)
			first := w.connect()
			second := w.nodes[0].Refresh(first.Refresh).Tokens()
			status(t, w.nodes[1].Revoke(first.Refresh), http.StatusOK) // the whole family, by any of its tokens
			ended(t, w.nodes[0], first, second)
			ended(t, w.nodes[1], first, second)
		})
		t.Run("RV-02 only an access token, at both nodes/"+string(engine), func(t *testing.T) {
			w := start(t, engine, 30*time.Second)
			first := w.connect()
			second := w.nodes[0].Refresh(first.Refresh).Tokens()
			status(t, w.nodes[1].Revoke(first.Access), http.StatusOK)
			if w.nodes[0].Active(first.Access) || w.nodes[1].Active(first.Access) {
				t.Error("the access token is still active")
			}
			if !w.nodes[0].Active(second.Access) || !w.nodes[1].Active(second.Refresh) {
				t.Error("more than the access token ended")
			}
			status(t, w.nodes[0].Revoke(first.Access), http.StatusOK) // revoking again is not an error
		})
	}

	s := open(t)
	owner, stranger := s.Client(servertest.Confidential), s.Client(servertest.Confidential)
	tokens := s.Agent(t, owner).Connect(s.browser, s.ada)
	untouched := func(t *testing.T) {
		t.Helper()
		agent := s.Agent(t, owner)
		if !agent.Active(tokens.Access) || !agent.Active(tokens.Refresh) {
			t.Error("the tokens are no longer active")
		}
	}
	t.Run("a repeated revocation is not recorded again", func(t *testing.T) {
		storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
			s := servertest.New(t, db, clock)
			s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
			agent := s.Agent(t, s.Client())
			tokens := agent.Connect(s.Browser(t), s.User("ada@example.com"))
			for i, token := range []string{tokens.Access, tokens.Refresh} {
				for range 3 {
					status(t, agent.Revoke(token), http.StatusOK)
				}
				if n := len(s.Events("token.revoke")); n != i+1 {
					t.Errorf("%d events after %d revocations that changed something", n, i+1)
				}
			}
		})
	})
	t.Run("RV-04 unknown tokens", func(t *testing.T) {
		for _, token := range append(mutations(tokens.Refresh), "x", "a.b.c", tokens.Access+"A") {
			reply := s.Agent(t, owner).Revoke(token)
			status(t, reply, http.StatusOK)
			body := strings.TrimSpace(string(reply.Body))
			if body != "{}" || reply.Header.Get("Content-Type") != "application/json" {
				t.Errorf("the answer is %s %q, want an empty object of application/json",
					reply.Header.Get("Content-Type"), body)
			}
		}
		untouched(t)
	})
	t.Run("RV-04 another client's", func(t *testing.T) {
		status(t, s.Agent(t, stranger).Revoke(tokens.Refresh), http.StatusOK)
		status(t, s.Agent(t, stranger).Revoke(tokens.Access), http.StatusOK)
		untouched(t)
	})
	t.Run("RV-04 unknown tokens do not fill the log", func(t *testing.T) {
		s := open(t, func(c *config.Config) { c.Limits.Enabled = true })
		anybody := s.Agent(t, s.Client())
		for _, token := range []string{"x", "cardea_rt_x_1_y"} {
			for range 400 {
				status(t, anybody.Revoke(token), http.StatusOK)
			}
		}
		if events := len(s.Events("token.revoke")); events == 0 || events > 310 {
			t.Errorf("%d audit events, want 1 to 310", events)
		}
	})
	t.Run("RV-05 another type", func(t *testing.T) {
		s.Agent(t, owner).Revoke(tokens.Access, servertest.With("token_type_hint", "saml2")).
			Refused(http.StatusBadRequest, "unsupported_token_type")
		untouched(t)
	})
	t.Run("no token", func(t *testing.T) {
		s.Agent(t, owner).Revoke("").Refused(http.StatusBadRequest, "invalid_request")
	})
	for name, tweak := range map[string]servertest.Tweak{
		"none":           servertest.Header("Authorization"),
		"a wrong secret": basic(owner.ID, "wrong"),
		"the id alone": func(r *servertest.Request) {
			r.Header.Del("Authorization")
			r.Params.Set("client_id", owner.ID)
		},
		"the token itself":      servertest.Header("Authorization", "Bearer "+tokens.Access),
		"the secret of another": basic(owner.ID, stranger.Secret),
	} {
		t.Run("RV-08 credentials: "+name, func(t *testing.T) {
			s.Agent(t, owner).Revoke(tokens.Refresh, tweak).Refused(http.StatusUnauthorized, "invalid_client")
			s.Agent(t, owner).Revoke(tokens.Access, tweak).Refused(http.StatusUnauthorized, "invalid_client")
			untouched(t)
		})
	}
	t.Run("RV-01 a hint that is wrong", func(t *testing.T) {
		agent := s.Agent(t, owner)
		status(t, agent.Revoke(tokens.Refresh, servertest.With("token_type_hint", "access_token")), http.StatusOK)
		ended(t, agent, tokens)
	})
}
