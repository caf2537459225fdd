package server_test

import (
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// A person who decides by the keyboard sees what has the focus: on a phone, and on a page that is zoomed to 200 %, on
// which the buttons of the decision would otherwise be in front of it. Nothing has to be scrolled sideways.
func TestConsentFocusInChromium(t *testing.T) {
	s := servertest.Start(t)
	scopes, asked := []string{}, ""
	for i := range 12 {
		scopes = append(scopes, fmt.Sprintf("mcp:tools:%d=Do thing number %d of many that need some words", i, i))
		asked += fmt.Sprintf("mcp:tools:%d ", i)
	}
	s.Resource(servertest.MCP, scopes...)
	ada, agent := s.User("ada@example.com"), s.Agent(t, s.Client())
	for _, screen := range []struct{ width, height int64 }{{390, 844}, {640, 400}} {
		t.Run(fmt.Sprint(screen.width, "x", screen.height), func(t *testing.T) {
			ctx := chromium(t)
			for _, err := range []error{
				call(chromedp.Call(ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
					Width: screen.width, Height: screen.height, DeviceScaleFactor: 1})),
				call(chromedp.Call(ctx, emulation.SetScriptExecutionDisabled,
					emulation.SetScriptExecutionDisabledParams{Value: false})),
				chromedp.Do(ctx, chromedp.Navigate(s.URL+"/oauth2/authorize?"+
					agent.Authorization(servertest.With("scope", asked),
						servertest.With("prompt", "consent")).Encode()),
					filled(`#email`, ada.Email), filled(`#password`, ada.Password+"\r"), shown(`button[value="allow"]`)),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			yes := true
			for range 30 {
				if err := chromedp.Do(ctx, press(kb.Tab, 1)); err != nil {
					t.Fatal(err)
				}
				got, err := chromedp.Call(ctx, runtime.Evaluate, runtime.EvaluateParams{ReturnByValue: &yes, Expression: `(() => {
					const e = document.activeElement, r = e.getBoundingClientRect();
					const top = document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
					if (!top || !e.contains(top)) return e.outerHTML + " is behind " + (top ? top.outerHTML : "the edge");
					const d = document.documentElement;
					return d.scrollWidth > d.clientWidth ? "the page is too wide" : e.value || "";
				})()`})
				if err != nil || got.ExceptionDetails != nil {
					t.Fatalf("%v %+v", err, got.ExceptionDetails)
				}
				switch said := string(got.Result.Value); {
				case said == `"allow"`:
					return
				case len(said) > 20:
					t.Error(said)
				}
			}
			t.Error("the button is not reached")
		})
	}
}
