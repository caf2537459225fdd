package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// Failure 01: loopback redirect matched with its port.
func loopbackPort(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	agent := s.Agent(t, nil)
	agent.Register(map[string]any{"redirect_uris": []string{"http://127.0.0.1:33418/callback",
		"http://localhost/callback", "http://[::1]:1/callback"}})
	for _, uri := range []string{
		"http://127.0.0.1:33418/callback", "http://127.0.0.1:52163/callback", "http://localhost:8080/callback",
		"http://[::1]:49152/callback",
	} {
		agent.RedirectURI = uri
		agent.Connect(s.Browser(t), ada)
	}
	for _, uri := range []string{
		"http://127.0.0.1:33418/other", "http://127.0.0.2:33418/callback", "https://localhost:8080/callback",
		"http://localhost:8080/callback?a=b",
	} {
		agent.RedirectURI = uri
		s.Browser(t).Authorize(agent.Authorization()).ErrorPage(http.StatusBadRequest)
	}
}

// Failure 20: CSP form-action blocks the redirect after consent.
func formAction(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	for _, uri := range []string{
		"http://127.0.0.1:49152/callback", "com.example.agent:/callback", servertest.Callback,
	} {
		agent := s.Agent(t, s.Client(servertest.RedirectURIs(uri)))
		page := s.Browser(t).Authorize(agent.Authorization())
		for _, policy := range []string{
			page.Header.Get("Content-Security-Policy"), page.SignIn(ada).Header.Get("Content-Security-Policy"),
		} {
			if policy == "" || strings.Contains(policy, "form-action") {
				t.Errorf("%s: Content-Security-Policy is %q", uri, policy)
			}
		}
		answer := s.Browser(t).Authorize(agent.Authorization()).Through(ada)
		if answer.Code(); answer.Status != http.StatusSeeOther {
			t.Errorf("%s: status %d", uri, answer.Status)
		}
	}
}

// Failure 23: iss missing, unadvertised or different.
func issMissing(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	for _, path := range []string{metadataPath, "/.well-known/openid-configuration"} {
		m := s.Agent(t, nil).Get(path).JSON()
		if m["authorization_response_iss_parameter_supported"] != true || text(m, "issuer") != s.URL {
			t.Errorf("%s: %v %v", path, m["issuer"], m["authorization_response_iss_parameter_supported"])
		}
	}
	agent := s.Agent(t, s.Client())
	browser := s.Browser(t)
	// Code and Refused compare iss with the issuer.
	browser.Authorize(agent.Authorization(servertest.With("prompt", "none"))).Refused("login_required")
	browser.Authorize(agent.Authorization()).SignIn(ada).Deny().Refused("access_denied")
	browser.Authorize(agent.Authorization()).Through(ada).Code()
}
