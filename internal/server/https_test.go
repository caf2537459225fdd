package server_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// TestHTTPS connects an agent over https, and looks at every header on the way.
func TestHTTPS(t *testing.T) {
	db, clock := storetest.Open(t, storetest.SQLite)
	s := servertest.NewTLS(t, db, clock)
	s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
	ada := s.User("ada@example.com")
	agent, browser := s.Agent(t, s.Client()), s.Browser(t)

	var set []string // cookies, by name
	look := func(where string, h http.Header) {
		t.Helper()
		if got := h.Get("Strict-Transport-Security"); got != "max-age=31536000" {
			t.Errorf("HT-01 %s: Strict-Transport-Security is %q", where, got)
		}
		for _, line := range h["Set-Cookie"] {
			cookie, err := http.ParseSetCookie(line)
			if err != nil {
				t.Fatal(err)
			}
			set = append(set, cookie.Name)
			if !strings.HasPrefix(cookie.Name, "__Host-") || !cookie.Secure || !cookie.HttpOnly || cookie.Path != "/" ||
				cookie.Domain != "" || cookie.SameSite != http.SameSiteLaxMode {
				t.Errorf("%s: the cookie is %s", where, line)
			}
		}
	}

	metadata := agent.Get("/.well-known/oauth-authorization-server")
	look("metadata", metadata.Header)
	if issuer := metadata.Text("issuer"); issuer != s.URL || !strings.HasPrefix(issuer, "https://") {
		t.Errorf("the issuer is %q", issuer)
	}
	params := agent.Authorization()
	look("authorization", agent.Get("/oauth2/authorize?"+params.Encode()).Header)
	signIn := browser.Authorize(params)
	look("sign-in", signIn.Header)
	// A browser follows the redirects on which cookies come; the agent looks at them.
	var sent []string
	for name, value := range browser.Cookies() {
		sent = append(sent, name+"="+value)
	}
	look("signed in", agent.Post("/login", signIn.Form("password").Values(),
		servertest.With("email", ada.Email), servertest.With("password", ada.Password),
		servertest.Header("Cookie", strings.Join(sent, "; "))).Header)
	consent := signIn.SignIn(ada)
	look("consent", consent.Header)
	answer := consent.Allow()
	look("answer", answer.Header)
	tokens := agent.Exchange(answer.Code())
	look("tokens", tokens.Header)
	if claims := servertest.Claims(t, tokens.Tokens().Access); claims.Issuer != s.URL || claims.Subject != ada.ID {
		t.Errorf("the claims are %+v", claims)
	}
	out := browser.Get("/logout")
	out = out.Submit(out.Form("csrf"))
	look("signed out", out.Header)
	for _, name := range []string{"__Host-cardea_browser", "__Host-cardea_session", "__Host-cardea_device"} {
		if !slices.ContainsFunc(set, func(cookie string) bool { return strings.HasPrefix(cookie, name) }) {
			t.Errorf("the cookie %s was never set, but %q", name, set)
		}
	}
}
