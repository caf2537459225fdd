package server_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// browser is a real browser, started by the first test that needs it and ended after the last one.
var browser struct {
	once sync.Once
	ctx  context.Context
	err  error
	end  []func()
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, end := range slices.Backward(browser.end) {
		end()
	}
	os.Exit(code)
}

// inBrowser matches the names of tests that need a browser. test/run knows the same words: it runs these tests in a
// process of their own, without the race detector, because they mostly wait for the browser.
var inBrowser = regexp.MustCompile(`^Test\w*(Accessibility|Chromium|InABrowser|ByKeyboard|FromFirstStart)(/|$)`)

func startChromium() error {
	path := os.Getenv("CARDEA_CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("no Chromium (%w): run make test, which installs it, or set CARDEA_CHROMIUM", err)
	}
	profile, err := os.MkdirTemp("", "cardea-chromium-")
	if err != nil {
		return err
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(path), chromedp.UserDataDir(profile),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
	)
	browser.end = append(browser.end, func() { _ = os.RemoveAll(profile) }, cancel)
	browser.ctx, cancel = chromedp.NewContext(allocator)
	browser.end = append(browser.end, func() { _ = chromedp.Cancel(browser.ctx); cancel() })
	return chromedp.Do(browser.ctx, chromedp.Navigate("about:blank"))
}

// chromium returns a tab of a real browser with scripts switched off. It shares no cookies with the tabs of others.
func chromium(t *testing.T) context.Context {
	t.Helper()
	if !inBrowser.MatchString(t.Name()) {
		t.Fatal("test/run finds the tests that need a browser by their names: end this one's with InChromium")
	}
	browser.once.Do(func() { browser.err = startChromium() })
	if browser.err != nil {
		t.Fatal(browser.err)
	}
	ctx, cancel := chromedp.NewContext(browser.ctx, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*time.Minute)
	t.Cleanup(cancel)
	for _, err := range []error{
		call(chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: 1280, Height: 800, DeviceScaleFactor: 1})),
		call(chromedp.Call(ctx, emulation.SetFocusEmulationEnabled,
			emulation.SetFocusEmulationEnabledParams{Enabled: true})),
		call(chromedp.Call(ctx, emulation.SetScriptExecutionDisabled,
			emulation.SetScriptExecutionDisabledParams{Value: true})),
	} {
		if err != nil {
			t.Fatalf("chromium: %v", err)
		}
	}
	return ctx
}

// signIn types the person's address and password at the sign-in page, once its first input has the focus. A key that
// is pressed before is lost.
func signIn(p *servertest.Person) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.WaitVisible(chromedp.CSS(`input[name="email"]:focus`)),
		chromedp.KeyEvent(p.Email), press(kb.Tab, 1), chromedp.KeyEvent(p.Password), press(kb.Enter, 1))
}

// press presses a key several times.
func press(key string, times int) chromedp.Action[chromedp.Void] {
	return chromedp.KeyEvent(strings.Repeat(key, times))
}

func TestChromium(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	loopback := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("connected"))
	}))
	t.Cleanup(loopback.Close)

	for _, tt := range []struct {
		name, redirectURI string
		allow             []chromedp.Action[chromedp.Void]
		scope             string
	}{
		{"CN-29 loopback redirect, by mouse", loopback.URL + "/callback", []chromedp.Action[chromedp.Void]{
			chromedp.Click(chromedp.CSS(`input[value="mcp:tools:email:send"]`)),
			chromedp.Click(chromedp.CSS(`button[value="allow"]`)),
		}, "mcp:tools:weather"},
		{"CN-29 custom scheme, by keyboard", "com.example.agent:/callback", []chromedp.Action[chromedp.Void]{
			press(kb.Tab, 8), // not you, details, two scopes, how long, the account, deny, allow
			press(kb.Enter, 1),
		}, "mcp:tools:weather mcp:tools:email:send"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := chromium(t)
			agent := s.Agent(t, s.Client(func(c *oauth.Client) { c.RedirectURIs = []string{tt.redirectURI} }))
			params := agent.Authorization(servertest.With("scope", "mcp:tools:weather mcp:tools:email:send"))
			err := chromedp.Do(ctx,
				chromedp.Navigate(s.URL+"/oauth2/authorize?"+params.Encode()),
				signIn(ada),
				chromedp.WaitVisible(chromedp.CSS(`button[value="allow"]`)),
			)
			if err != nil {
				t.Fatal(err)
			}
			isAnswer := func(e network.EventRequestWillBeSent) bool {
				return strings.HasPrefix(e.Request.URL, tt.redirectURI)
			}
			answer, err := chromedp.Run(ctx,
				chromedp.WaitEvent(network.RequestWillBeSent, isAnswer, chromedp.Steps(tt.allow...)))
			if err != nil {
				t.Fatalf("the answer never arrived at the client: %v", err)
			}
			u, err := url.Parse(answer.Request.URL)
			if err != nil {
				t.Fatal(err)
			}
			if u.Query().Get("state") != params.Get("state") || u.Query().Get("iss") != s.URL {
				t.Errorf("the answer is %s", u)
			}
			tokens := agent.Exchange(u.Query().Get("code")).Tokens()
			if tokens.Scope != tt.scope {
				t.Errorf("scope is %q, want %q", tokens.Scope, tt.scope)
			}
		})
	}
}

// A form that somebody smuggled into a page goes to no other site. Pages that lead to a client cannot have the rule,
// because Chrome applies it to the redirect after their form; TestChromium shows that they get there.
func TestSmuggledFormInChromium(t *testing.T) {
	s := servertest.Start(t)
	ada := s.User("ada@example.com")
	var arrived atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Store(true) }))
	t.Cleanup(elsewhere.Close)
	ctx := chromium(t)
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: false}); err != nil {
		t.Fatal(err)
	}
	err := chromedp.Do(ctx,
		chromedp.Navigate(s.URL+"/login?return=/account/security"),
		signIn(ada),
		chromedp.WaitVisible(chromedp.CSS(`form[action="/account/security/password"]`)))
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	got, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{
		Expression: `new Promise(done => {
			document.addEventListener("securitypolicyviolation", e => done(e.effectiveDirective));
			const form = document.querySelector('form[action="/account/security/password"]');
			form.action = "` + elsewhere.URL + `";
			form.submit();
		})`, AwaitPromise: &yes, ReturnByValue: &yes})
	if err != nil || got.ExceptionDetails != nil || string(got.Result.Value) != `"form-action"` || arrived.Load() {
		t.Errorf("the form was sent: %t: %v %+v", arrived.Load(), err, got)
	}
}

// Enter on a checkbox decides nothing: neither the first button nor the last is meant.
func TestEnterOnCheckboxInChromium(t *testing.T) {
	s := servertest.StartMCP(t)
	ada := s.User("ada@example.com")
	ctx := chromium(t)
	agent := s.Agent(t, s.Client())
	params := agent.Authorization(servertest.With("scope", "mcp:tools:weather mcp:tools:email:send"))
	err := chromedp.Do(ctx,
		chromedp.Navigate(s.URL+"/oauth2/authorize?"+params.Encode()),
		signIn(ada),
		chromedp.WaitVisible(chromedp.CSS(`button[value="allow"]`)),
		press(kb.Tab, 3), press(" ", 1), press(kb.Enter, 1), // not you, details, the first scope
		chromedp.WaitVisible(chromedp.CSS(`[role="alert"]`)), // that asks for a choice
	)
	if err != nil {
		t.Fatal(err)
	}
	if events := s.Events("authorize.consent"); len(events) != 1 || events[0].Reason != "invalid_request" {
		t.Errorf("it was taken for an answer: %+v", events)
	}
	isAnswer := func(e network.EventRequestWillBeSent) bool {
		return strings.HasPrefix(e.Request.URL, servertest.Callback)
	}
	answer, err := chromedp.Run(ctx,
		chromedp.WaitEvent(network.RequestWillBeSent, isAnswer,
			chromedp.Steps(chromedp.Click(chromedp.CSS(`button[value="allow"]`)))))
	if err != nil {
		t.Fatalf("the answer never arrived at the client: %v", err)
	}
	u, err := url.Parse(answer.Request.URL)
	if err != nil {
		t.Fatal(err)
	}
	if tokens := agent.Exchange(u.Query().Get("code")).Tokens(); tokens.Scope != "mcp:tools:email:send" {
		t.Errorf("scope is %q: the ticks were lost", tokens.Scope)
	}
}

// A person returns to a client that asked in a wrong way, wherever it is answered.
func TestReturnInChromium(t *testing.T) {
	s := servertest.StartMCP(t)
	for _, uri := range []string{"https://agent.example.com/callback?a=1", "com.example.agent:/callback"} {
		t.Run(uri, func(t *testing.T) {
			ctx := chromium(t)
			agent := s.Agent(t, s.Client(servertest.Unapproved, servertest.RedirectURIs(uri)))
			params := agent.Authorization(servertest.With("response_type", "token"))
			err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/oauth2/authorize?"+params.Encode()),
				chromedp.WaitVisible(chromedp.CSS(`button`)))
			if err != nil {
				t.Fatal(err)
			}
			isAnswer := func(e network.EventRequestWillBeSent) bool { return strings.HasPrefix(e.Request.URL, uri) }
			answer, err := chromedp.Run(ctx,
				chromedp.WaitEvent(network.RequestWillBeSent, isAnswer,
					chromedp.Steps(chromedp.Click(chromedp.CSS(`button`)))))
			if err != nil {
				t.Fatalf("the answer never arrived at the client: %v", err)
			}
			if u := answer.Request.URL; !strings.Contains(u, "error=unsupported_response_type") ||
				!strings.Contains(u, "state="+params.Get("state")) {
				t.Errorf("the answer is %s", u)
			}
		})
	}
}
