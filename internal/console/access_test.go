package console_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// Who ends a grant or a session reads first whose it is, and what strangers chose in it is text.
func TestConfirmationsNameWhatEnds_AD08(t *testing.T) {
	s := servertest.StartMCP(t)
	const script = "<script>alert(1)</script>"
	agent := s.Agent(t, s.Client(servertest.RedirectURIs("http://127.0.0.1/callback"),
		func(c *oauth.Client) { c.Name = "Evil\u202e " + script }))
	agent.RedirectURI = "http://127.0.0.1/callback"
	browser := s.Browser(t)
	browser.Header = map[string][]string{"User-Agent": {"Browser " + script}}
	agent.Connect(browser, s.User("ada@example.com"))

	b := staff(t, s, identity.Operator)
	for list, want := range map[string][]string{
		"/admin/grants": {"Revoke what ada@example.com allowed Evil &lt;script&gt;",
			"at " + servertest.MCP, "with: mcp:tools:weather"},
		"/admin/sessions?user=ada@example.com": {"End the session of ada@example.com?",
			"It is in Browser &lt;script&gt;", "from 127.0.0.1"},
	} {
		page := b.Get(list)
		says(t, page, 200, "&lt;script&gt;")
		lacks(t, page, script, "\u202e")
		for _, link := range page.Links() {
			if strings.HasSuffix(link, "/revoke") {
				confirm := b.Get(link)
				says(t, confirm, 200, want...)
				lacks(t, confirm, script, "\u202e")
				says(t, confirm.Submit(confirm.Form("csrf")), 200, `role="status"`)
				break
			}
		}
	}
	for _, path := range []string{"/admin/grants/grt_none/revoke", "/admin/sessions/ses_none/revoke"} {
		says(t, b.Get(path), 404)
	}
}
