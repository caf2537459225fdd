package token_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// word matches text that could be a secret, or the hash or id of one.
var word = regexp.MustCompile(`[A-Za-z0-9_.=/+-]{20,}`)

// TestDatabaseAlone checks that everything in the database is not enough to get a token.
func TestDatabaseAlone(t *testing.T) {
	s := open(t)
	client := s.Client(servertest.Confidential,
		func(c *oauth.Client) { c.GrantTypes = append(c.GrantTypes, oauth.ClientCredentials) })
	agent := s.Agent(t, client)
	tokens := agent.Exchange(s.code(agent)).Tokens()
	agent.Refresh(tokens.Refresh).Tokens()
	s.code(agent) // an unredeemed code
	own := s.Agent(t, nil)
	own.Register(map[string]any{"client_name": "Own", "redirect_uris": []string{servertest.Callback},
		"token_endpoint_auth_method": "client_secret_post"})

	var words []string
	for _, found := range word.FindAllString(string(storetest.AtRest(t, s.DB)), -1) {
		for _, form := range []string{
			found, oauth.CodePrefix + found, oauth.RefreshPrefix + found, oauth.SecretPrefix + found,
		} {
			if !slices.Contains(words, form) {
				words = append(words, form)
			}
		}
	}
	if len(words) < 50 {
		t.Fatalf("only %d words are stored: this test does not find the data", len(words))
	}
	t.Run("CS-02 what is stored opens nothing", func(t *testing.T) {
		for _, stolen := range words {
			thief := *agent
			for what, reply := range map[string]*servertest.Reply{
				"code":          agent.Exchange(stolen),
				"refresh token": agent.Refresh(stolen),
			} {
				if reply.Status == http.StatusOK {
					t.Errorf("%.12s… is good as a %s", stolen, what)
				}
			}
			if thief.Secret = stolen; thief.ClientCredentials(servertest.With("resource",
				servertest.MCP)).Status == http.StatusOK {
				t.Errorf("%.12s… is good as a client secret", stolen)
			}
			if agent.Active(stolen) {
				t.Errorf("%.12s… is an active token", stolen)
			}
			own.RegistrationToken = stolen
			if own.Registration(http.MethodGet, nil).Status == http.StatusOK {
				t.Errorf("%.12s… is good as a registration access token", stolen)
			}
			browser := s.Browser(t)
			browser.SetCookie("cardea_session", stolen)
			if page := browser.Get("/login"); !page.IsSignIn() && strings.Contains(page.Body, "ada@example.com") {
				t.Errorf("%.12s… is a session", stolen)
			}
		}
	})
}

func TestSecretsStayAway(t *testing.T) {
	s := open(t)
	t.Run("CS-04 no secret in the log or in an address", func(t *testing.T) {
		agent := s.Agent(t, s.Client(servertest.Confidential))
		page := s.browser.Authorize(agent.Authorization()).SignIn(s.ada).Allow("weather")
		code := page.Code()
		tokens := agent.Exchange(code).Tokens()
		agent.Refresh(tokens.Refresh).Tokens()
		for name, secret := range map[string]string{
			"code": code, "access token": tokens.Access, "refresh token": tokens.Refresh, "client secret": agent.Secret,
			"password": s.ada.Password, "verifier": agent.Verifier,
		} {
			if strings.Contains(s.Log(), secret) {
				t.Errorf("the %s is in the log", name)
			}
			if name != "code" && strings.Contains(page.Location, secret) {
				t.Errorf("the %s is in the redirect", name)
			}
		}
		if strings.Contains(s.Log(), "request=") || strings.Contains(s.Log(), "state=") {
			t.Error("the log has the queries of addresses")
		}
		if got := s.Browser(t).Get("/login").Header.Get("Referrer-Policy"); got != "no-referrer" {
			t.Errorf("Referrer-Policy is %q, want %q", got, "no-referrer")
		}
	})
}

func TestMethods(t *testing.T) {
	s := open(t)
	machine := func(method oauth.Method) func(*oauth.Client) {
		return func(c *oauth.Client) { c.Method, c.GrantTypes = method, []oauth.GrantType{oauth.ClientCredentials} }
	}
	resource := servertest.With("resource", servertest.MCP)
	// both are accepted, whichever was registered
	t.Run("TK-44 a secret in the header and in the body", func(t *testing.T) {
		for _, method := range []oauth.Method{oauth.MethodBasic, oauth.MethodPost} {
			agent := s.Agent(t, s.Client(machine(method)))
			agent.ClientCredentials(resource).Tokens()
			posted := *agent
			posted.Secret = ""
			posted.ClientCredentials(resource, servertest.With("client_secret", agent.Secret)).Tokens()
			posted.ClientCredentials(resource).Refused(http.StatusUnauthorized, "invalid_client")
		}
	})
	t.Run("TK-44 another method than the registered one", func(t *testing.T) {
		public := s.Agent(t, s.Client())
		public.Exchange("x", servertest.With("client_secret", "guess")).
			Refused(http.StatusUnauthorized, "invalid_client")
		public.Exchange("x", basic(public.ClientID, "guess")).Refused(http.StatusUnauthorized, "invalid_client")
		key := servertest.NewKey(t, "", "ES256")
		signing := s.Agent(t,
			s.Client(machine(oauth.MethodPrivateKeyJWT), servertest.Signed(servertest.KeySet(t, key))))
		signing.ClientCredentials(resource).Refused(http.StatusUnauthorized, "invalid_client")
		signing.ClientCredentials(resource, servertest.With("client_secret", "guess")).
			Refused(http.StatusUnauthorized, "invalid_client")
		secretive := s.Agent(t, s.Client(machine(oauth.MethodBasic)))
		secretive.Key = key
		secretive.ClientCredentials(resource, servertest.Assert(secretive.Assertion())).
			Refused(http.StatusUnauthorized, "invalid_client")
	})
}
