package upstreamtest

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// GitHub is a server with the form of a GitHub Enterprise: OAuth without OpenID Connect, and its API under /api/v3.
type GitHub struct {
	URL string

	mu      sync.Mutex
	t       testing.TB
	account GitHubAccount
	codes   map[string]string // challenge by code
	tokens  map[string]GitHubAccount
}

// GitHubAccount is who is signed in at a GitHub.
type GitHubAccount struct {
	ID     int64
	Login  string
	Emails []Claims // as GET /user/emails has them
}

// NewGitHub runs a GitHub until t ends.
func NewGitHub(t testing.TB) *GitHub {
	t.Helper()
	g := &GitHub{t: t, codes: map[string]string{}, tokens: map[string]GitHubAccount{}}
	web := httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(web.Close)
	g.URL = web.URL
	return g
}

// SignIn makes account the one that is signed in.
func (g *GitHub) SignIn(account GitHubAccount) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.account = account
}

// Forget revokes all tokens.
func (g *GitHub) Forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.tokens)
}

// Visit opens the address to which Cardea sent the browser, and returns the one to which GitHub sends it back.
func (g *GitHub) Visit(location string) string { g.t.Helper(); return visit(g.t, location) }

func (g *GitHub) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	account, known := g.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	if strings.HasPrefix(r.URL.Path, "/api/") && !known {
		send(w, http.StatusUnauthorized, Claims{"message": "Bad credentials"})
		return
	}
	switch r.URL.Path {
	case "/login/oauth/authorize":
		code := rand.Text()
		g.codes[code] = r.URL.Query().Get("code_challenge")
		back := url.Values{"code": {code}, "state": {r.URL.Query().Get("state")}}
		http.Redirect(w, r, r.URL.Query().Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
	case "/login/oauth/access_token":
		challenge, ok := g.codes[r.FormValue("code")]
		delete(g.codes, r.FormValue("code"))
		sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
		switch {
		case r.FormValue("client_id") != ClientID || r.FormValue("client_secret") != ClientSecret:
			send(w, http.StatusOK, Claims{"error": "incorrect_client_credentials"}) // with 200, as GitHub does
		case !ok || challenge != base64.RawURLEncoding.EncodeToString(sum[:]):
			send(w, http.StatusOK, Claims{"error": "bad_verification_code"})
		default:
			token := "gho_" + rand.Text()
			g.tokens[token] = g.account
			send(w, http.StatusOK,
				Claims{"access_token": token, "token_type": "bearer", "scope": "read:user,user:email"})
		}
	case "/api/v3/user":
		send(w, http.StatusOK, Claims{"id": account.ID, "login": account.Login, "name": nil})
	case "/api/v3/user/emails":
		send(w, http.StatusOK, account.Emails)
	default:
		http.NotFound(w, r)
	}
}
