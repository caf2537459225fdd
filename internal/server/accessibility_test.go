package server_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// screens are what the pages are looked at on.
var screens = []struct {
	name          string
	width, height int64
	scheme        string
}{{"light desktop", 1280, 800, "light"}, {"dark phone", 360, 740, "dark"}}

// lens starts a browser with scripts and the screen of that size. look reports what axe-core finds on the page that is
// open, and visit opens a page, waits until an element is there, and looks at it.
func lens(t *testing.T, width, height int64, scheme string) (ctx context.Context, look func(name string),
	visit func(name, url, wait string)) {
	t.Helper()
	file := filepath.Join(os.Getenv("CARDEA_CLIENTS"), "node_modules/axe-core/axe.min.js")
	axe, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run make test, which installs axe-core and sets CARDEA_CLIENTS", err)
	}
	ctx = chromium(t)
	for _, err := range []error{
		call(chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
			Width: width, Height: height, DeviceScaleFactor: 1})),
		call(chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})),
		call(chromedp.Call(ctx, emulation.SetScriptExecutionDisabled,
			emulation.SetScriptExecutionDisabledParams{Value: false})),
		// Each page gets axe-core before its own scripts, because sending it to each page takes longer than its checks.
		call(chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument,
			page.AddScriptToEvaluateOnNewDocumentParams{Source: string(axe)})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	look = func(name string) {
		t.Helper()
		yes := true
		got, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{
			Expression: `axe.run({resultTypes: ["violations"]}).then(r =>
				JSON.stringify(r.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html)])))`,
			AwaitPromise: &yes, ReturnByValue: &yes,
		})
		if err != nil || got.ExceptionDetails != nil {
			t.Fatalf("%s: axe: %v %+v", name, err, got.ExceptionDetails)
		}
		var found string
		if err := json.Unmarshal(got.Result.Value, &found); err != nil {
			t.Fatal(err)
		}
		if found != "[]" {
			t.Errorf("%s: %s", name, found)
		}
	}
	visit = func(name, url, wait string) {
		t.Helper()
		if err := chromedp.Do(ctx, chromedp.Navigate(url), chromedp.WaitVisible(chromedp.CSS(wait))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		look(name)
	}
	return ctx, look, visit
}

// axe-core finds nothing on the pages, in light and in dark, on a phone and on a desktop.
func TestAccessibility(t *testing.T) {
	s := servertest.StartMCP(t)
	s.Update(func(tx *store.Tx) error {
		r, err := tx.Resource(servertest.MCP)
		if err != nil {
			return err
		}
		for i := range r.Scopes {
			r.Scopes[i].Risk = oauth.Risks[i%len(oauth.Risks)]
		}
		return tx.UpdateResource(r)
	})
	ada := s.User("ada@example.com")
	agent := s.Agent(t, nil) // unverified
	agent.RedirectURI = "http://127.0.0.1/callback"
	agent.Register(nil)
	params := agent.Authorization(servertest.With("scope", "mcp:tools:weather mcp:tools:email:send offline_access"))
	authorize := s.URL + "/oauth2/authorize?"
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			visit("home", s.URL+"/", "h1")
			visit("setup", s.URL+"/setup", `input[name="token"]`)
			visit("failure", authorize+"client_id=nobody", "h1")
			visit("sign-in", authorize+params.Encode(), `input[name="password"]`)
			err := chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), ada.Email),
				chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), "wrong\r"), chromedp.WaitVisible(chromedp.CSS(`#error`)))
			if err != nil {
				t.Fatal(err)
			}
			look("a failed sign-in")
			err = chromedp.Do(ctx, chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), ada.Password+"\r"),
				chromedp.WaitVisible(chromedp.CSS(`button[value="allow"]`)))
			if err != nil {
				t.Fatal(err)
			}
			look("consent")
			visit("signed in", s.URL+"/login", `form[action="/logout"]`)
			disconnect := chromedp.CSS(`form[action$="/revoke"] button`)
			if screen.name == screens[0].name {
				agent.Connect(s.Browser(t), ada)
			}
			visit("agents", s.URL+"/account", `form[action$="/revoke"]`)
			err = chromedp.Do(ctx, chromedp.Click(disconnect),
				chromedp.WaitVisible(chromedp.CSS(`form[action$="/undo"]`)))
			if err != nil {
				t.Fatal(err)
			}
			look("a disconnected agent")
			undo := chromedp.CSS(`form[action$="/undo"] button`)
			if err := chromedp.Do(ctx, chromedp.Click(undo), chromedp.WaitVisible(disconnect)); err != nil {
				t.Fatal(err)
			}
			for _, page := range []string{"sessions", "security", "activity", "data", "delete"} {
				visit(page, s.URL+"/account/"+page, "h1")
			}
		})
	}
}

// call drops what a command answers besides its error.
func call[T any](_ T, err error) error { return err }
