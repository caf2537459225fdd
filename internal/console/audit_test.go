package console_test

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/ledger"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// staff returns a browser in which a person with the role is signed in.
func staff(t *testing.T, s *servertest.Server, role identity.Role) *servertest.Browser {
	t.Helper()
	who := s.User(oauth.NewID(string(role)+"_") + "@example.com")
	s.Update(func(tx *store.Tx) error {
		u, err := tx.UserByEmail(who.Email)
		if err != nil {
			return err
		}
		return tx.UpdateUser(&identity.User{ID: u.ID, Name: "Staff", Role: role})
	})
	b := s.Browser(t)
	b.Get("/admin/audit").SignIn(who)
	return b
}

// says fails the test unless page has the status and all texts.
func says(t *testing.T, page *servertest.Page, status int, texts ...string) {
	t.Helper()
	if page.Status != status {
		t.Fatalf("%s: status %d, want %d\n%s", page.URL, page.Status, status, page.Body)
	}
	for _, text := range texts {
		if !strings.Contains(page.Body, text) {
			t.Errorf("%s does not say %q:\n%s", page.URL, text, page.Body)
		}
	}
}

// lacks fails the test if page has one of the texts.
func lacks(t *testing.T, page *servertest.Page, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(page.Body, text) {
			t.Errorf("%s says %q:\n%s", page.URL, text, page.Body)
		}
	}
}

// pathOf returns the path of the page of the newest event with that action.
func pathOf(s *servertest.Server, action string) string {
	return "/admin/audit/" + s.Events(action)[0].ID
}

func TestAuditExplorer(t *testing.T) {
	s := servertest.StartMCP(t)
	agent := s.Agent(t, s.Client(servertest.RedirectURIs("http://127.0.0.1/callback")))
	agent.RedirectURI = "http://127.0.0.1/callback"
	ada := s.User("ada@example.com")
	agent.Connect(s.Browser(t), ada)
	agent.Refresh("wrong")

	for _, role := range []identity.Role{identity.Owner, identity.Operator, identity.Auditor} {
		t.Run(string(role), func(t *testing.T) {
			b := staff(t, s, role)
			says(t, b.Get("/admin/audit"), 200, "allowed", "token.request", `aria-current="page">Audit`,
				`class="refused"`)
			says(t, b.Get(pathOf(s, audit.Issued)), 200, "The whole story", "this event", "As JSON", "same client")
		})
	}
	t.Run("a person without a role", func(t *testing.T) {
		b := s.Browser(t)
		b.Get("/admin/audit").SignIn(ada)
		says(t, b.Get("/admin/audit"), 403)
		says(t, b.Get(pathOf(s, audit.Issued)), 403)
	})

	b := staff(t, s, identity.Auditor)
	t.Run("filters are in the address and can be removed", func(t *testing.T) {
		page := b.Get("/admin/audit?outcome=refused&client=" + agent.ClientID)
		says(t, page, 200, "Remove the filter </span>Outcome: <bdi>refused</bdi>", "Remove the filter </span>Client: ",
			`href="/admin/audit?outcome=refused"`, `href="/admin/audit?client=`+agent.ClientID+`"`)
		lacks(t, page, `<span class="badge good">allowed`)
		says(t, b.Get("/admin/audit?user=ada@example.com&since=24h&address=127.0.0.1&action=login"), 200, "signed in")
	})
	t.Run("an export has what the filters select, and is recorded", func(t *testing.T) {
		page := b.Get("/admin/audit?outcome=refused&user=" + url.QueryEscape(ada.Email))
		says(t, page, 200, "Export these events as")
		for _, link := range page.Links() {
			if !strings.HasPrefix(link, "/admin/audit/export?") {
				continue
			}
			before := len(s.Events("event.export"))
			file := b.Get(link)
			lines := strings.Split(strings.TrimSpace(file.Body), "\n")
			refused := 0
			for _, e := range s.Events("") {
				if e.UserID == ada.ID && e.Outcome == audit.Refused {
					refused++
				}
			}
			if strings.Contains(link, "csv") {
				refused++ // the header
			}
			if file.Status != 200 || len(lines) != refused && refused > 0 || strings.Contains(file.Body, `"allowed"`) {
				t.Errorf("%s: %d %d lines, want %d:\n%s", link, file.Status, len(lines), refused, file.Body)
			}
			for name, want := range map[string]string{
				"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
				if got := file.Header.Get(name); got != want {
					t.Errorf("%s is %q", name, got)
				}
			}
			if d := file.Header.Get("Content-Disposition"); !strings.HasPrefix(d, `attachment; filename="audit-`) {
				t.Errorf("Content-Disposition is %q", d)
			}
			events := s.Events("event.export")
			if len(events) != before+1 || !strings.Contains(events[0].Detail["only"], "user="+ada.ID) ||
				events[0].Actor.ID == "" {
				t.Errorf("the events are %+v", events)
			}
		}
		before := len(s.Events("event.export"))
		for query, status := range map[string]int{"format=xml": 400, "format=csv&since=nonsense": 400,
			"format=csv&user=nobody@example.com": 404} {
			says(t, b.Get("/admin/audit/export?"+query), status)
		}
		says(t, b.Get("/admin/audit/export?format=csv", servertest.Header("Sec-Fetch-Site", "cross-site")), 403)
		if n := len(s.Events("event.export")); n != before {
			t.Errorf("%d exports more are recorded", n-before)
		}
	})
	t.Run("an empty filter is not an empty log", func(t *testing.T) {
		says(t, b.Get("/admin/audit?client=nobody"), 200, "No event matches")
	})
	t.Run("a filter that means nothing", func(t *testing.T) {
		for query, sentence := range map[string]string{
			"since=yesterday":         "This is not a time",
			"until=99999d9":           "This is not a time",
			"outcome=maybe":           "An outcome is",
			"address=here":            "This is not a network address",
			"user=nobody@example.com": "nobody@example.com",
		} {
			page := b.Get("/admin/audit?" + query)
			says(t, page, 422, sentence, "Nothing was looked for", `aria-invalid="true"`, "-problem")
			lacks(t, page, `id="events"`)
		}
	})
	if err := s.DB.Append(t.Context(), audit.ToolCall("mcp_1", servertest.MCP, "get_forecast").
		With("error", "the disk is full").Fail()); err != nil {
		t.Fatal(err)
	}
	t.Run("what failed", func(t *testing.T) {
		const told, refused = "called the tool get_forecast at ", "The refresh token of"
		says(t, b.Get("/admin/audit?outcome=failed"), 200, told, "which failed: the disk is full",
			`<span class="badge bad">failed`)
		lacks(t, b.Get("/admin/audit?outcome=failed"), refused, `<span class="badge good">`)
		says(t, b.Get("/admin/audit?outcome=wrong"), 200, told, refused)
		lacks(t, b.Get("/admin/audit?outcome=wrong"), `<span class="badge good">`)
		lacks(t, b.Get("/admin/audit?outcome=allowed"), told)
		lacks(t, b.Get("/admin/audit?outcome=refused"), told)
		says(t, b.Get(pathOf(s, "tool.call")), 200, "the disk is full", `<span class="badge bad">failed`)
		lacks(t, b.Get(pathOf(s, "tool.call")), "Refused because")
		says(t, b.Get("/admin"), 200, `<b>1</b> <a href="/admin/audit?outcome=failed">`)
	})
	t.Run("what went wrong first, then the others, page by page", func(t *testing.T) {
		var outcomes string
		for path := "/admin/audit?first=wrong"; path != ""; {
			page := b.Get(path)
			says(t, page, 200)
			for _, part := range strings.Split(page.Body, `<span class="badge `)[1:] {
				outcomes += part[:1] // of bad or good
			}
			path = ""
			for _, link := range page.Links() {
				if u, err := url.Parse(link); err == nil && u.Query().Has("after") {
					path = link
				}
			}
		}
		if trimmed := strings.TrimLeft(outcomes, "b"); trimmed == outcomes || strings.Contains(trimmed, "b") ||
			trimmed == "" {
			t.Errorf("the outcomes are %s", outcomes)
		}
	})
	t.Run("an event that is not there", func(t *testing.T) { says(t, b.Get("/admin/audit/evt_none"), 404) })
}

// What strangers chose is on the page as text.
func TestAuditShowsStrangersText_AD08(t *testing.T) {
	s := servertest.StartMCP(t)
	const script = `<script>alert(1)</script>`
	client := s.Client(func(c *oauth.Client) { c.Name = script + "\u202e" })
	event := audit.TokenRequest(client.ID, "refresh_token").With("what", script)
	event.Outcome, event.Reason, event.Description = audit.Refused, "invalid_grant", script
	ctx := audit.WithRequest(t.Context(),
		audit.Request{ID: `"><script>`, Address: "192.0.2.1", UserAgent: "curl\x1b[31m\r\n" + script + "\u202egpj"})
	if err := s.DB.Append(ctx, event); err != nil {
		t.Fatal(err)
	}
	b := staff(t, s, identity.Auditor)
	for _, path := range []string{"/admin/audit", pathOf(s, audit.Issued),
		"/admin/audit?client=" + url.QueryEscape(script) + "&since=" + url.QueryEscape(script)} {
		page := b.Get(path)
		lacks(t, page, script, "<script>", "\u202e", "\x1b")
		says(t, page, page.Status, "&lt;script&gt;")
	}
}

func TestAuditShowsChanges(t *testing.T) {
	s := servertest.StartMCP(t)
	event := audit.Client("update", "mcp_1").
		Changed(map[string]any{"client_name": "Old", "scopes": nil}, map[string]any{"client_name": "<b>New"})
	event.Outcome = audit.Allowed
	if err := s.DB.Append(t.Context(), event); err != nil {
		t.Fatal(err)
	}
	page := staff(t, s, identity.Auditor).Get(pathOf(s, "client.update"))
	says(t, page, 200, "What changed", "client name", "<bdi>Old</bdi>", "<bdi>&lt;b&gt;New</bdi>")
}

// The audit page says up to where the log is sealed, and exports in every format.
func TestSealed(t *testing.T) {
	s := servertest.StartMCP(t)
	b := staff(t, s, identity.Auditor)
	lacks(t, b.Get("/admin/audit"), "are sealed")
	key, err := ledger.NewKey(make([]byte, 32), nil)
	if err != nil {
		t.Fatal(err)
	}
	sealer := &ledger.Sealer{DB: s.DB, Key: key, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if err := sealer.SealAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	says(t, b.Get("/admin/audit"), http.StatusOK, " events are sealed, the last", "format=ocsf")
	says(t, b.Get("/admin/audit/export?format=ocsf&action=login."), http.StatusOK, `"class_uid":3002`)
}
