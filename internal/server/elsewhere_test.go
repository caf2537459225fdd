package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// In a browser without scripts, a person signs in elsewhere: with an OpenID provider, with GitHub, and on the page of
// an application. Each time the agent calls a tool.
func TestSignInElsewhereInChromium(t *testing.T) {
	click := func(selector string) chromedp.Action[chromedp.Void] { return chromedp.Click(chromedp.CSS(selector)) }
	seen := func(selector string) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(chromedp.CSS(selector))
	}
	t.Run("OpenID Connect", func(t *testing.T) {
		issuer := upstreamtest.NewIssuer(t, "")
		issuer.SignIn(upstreamtest.Claims{"sub": "ada-at-corp", "email": "ada@example.com", "email_verified": true})
		s := startNow(t, servertest.Provider(servertest.Corp(issuer.URL)))
		forecast(t, s, seen(`a[href^="/login/corp"]`), click(`a[href^="/login/corp"]`))
	})
	t.Run("GitHub", func(t *testing.T) {
		hub := upstreamtest.NewGitHub(t)
		hub.SignIn(upstreamtest.GitHubAccount{ID: 7, Login: "ada",
			Emails: []upstreamtest.Claims{{"email": "ada@example.com", "verified": true, "primary": true}}})
		s := startNow(t, servertest.Provider(servertest.Corp(hub.URL),
			func(c *upstream.Config) { c.Preset, c.Name = "github", "" }))
		forecast(t, s, seen(`a[href^="/login/corp"]`), click(`a[href^="/login/corp"]`))
	})
	t.Run("bring your own login", func(t *testing.T) {
		a := &application{t: t}
		web := httptest.NewServer(a)
		t.Cleanup(web.Close)
		a.s = startNow(t,
			func(c *config.Config) { c.Login.External.URL, c.Login.Methods = web.URL+"/cardea-login", nil })
		a.client = a.s.Client(servertest.Confidential,
			func(c *oauth.Client) { c.RedirectURIs, c.GrantTypes, c.ResponseTypes = nil, nil, nil })
		a.s.Update(func(tx *store.Tx) error { return tx.SetLoginClient(a.client.ID) })
		forecast(t, a.s, seen(`#sign-in`), click(`#sign-in`))
	})
}

// startNow runs a server whose clock shows the time, because the MCP server has a clock of its own.
func startNow(t *testing.T, edit func(*config.Config)) *servertest.Server {
	t.Helper()
	db, clock := storetest.Open(t, storetest.SQLite)
	clock.Set(time.Now())
	return servertest.New(t, db, clock, edit)
}

// application is an application with its own sign-in page, on which a click is enough.
type application struct {
	t      *testing.T
	s      *servertest.Server
	client *servertest.Client
}

func (a *application) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<form method="post"><input type="hidden" name="login_request" value="%s">`+
			`<button id="sign-in">Sign in</button></form>`,
			r.FormValue("login_request"))
		return
	}
	post, err := http.NewRequestWithContext(r.Context(), http.MethodPost,
		a.s.URL+"/login/external/"+r.FormValue("login_request"),
		strings.NewReader(fmt.Sprintf(`{"sub":"u1","name":"Ada","auth_time":%d}`, a.s.Clock.Now().Unix())))
	if err != nil {
		a.t.Error(err)
		return
	}
	post.SetBasicAuth(url.QueryEscape(a.client.ID), url.QueryEscape(a.client.Secret))
	resp, err := http.DefaultClient.Do(post)
	if err != nil {
		a.t.Error(err)
		return
	}
	defer func() { _ = resp.Body.Close() }()
	var said struct {
		ContinueURL string `json:"continue_url"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&said); err != nil || said.ContinueURL == "" {
		a.t.Errorf("the answer is %d %+v: %v", resp.StatusCode, said, err)
	}
	http.Redirect(w, r, said.ContinueURL, http.StatusSeeOther)
}

// forecast is forecastIn in a browser of its own.
func forecast(t *testing.T, s *servertest.Server, signIn ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	forecastIn(chromium(t), t, s, signIn...)
}

// forecastIn connects a real MCP client to an MCP server behind s, and calls a tool. In the browser, the person signs
// in by the steps and allows what the client asks for.
func forecastIn(ctx context.Context, t *testing.T, s *servertest.Server, signIn ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	w := newForecasts(t)
	s.Resource(w.Resource, "*mcp:tools:weather=Weather forecasts")
	w.protect(t, s.URL)
	allow := chromedp.CSS(`button[value="allow"]`)
	w.call(t, ctx, append(signIn, chromedp.WaitVisible(allow), chromedp.Click(allow))...)
}
