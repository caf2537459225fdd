package authorize_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/authorize"
	"github.com/cardea-auth/cardea/internal/interaction"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/web"
	"github.com/cardea-auth/cardea/internal/web/webtest"
)

// views returns all pages of the flow, with probe in all their texts.
func views(probe string) map[string]web.Answer {
	card := &interaction.ClientCard{Name: probe, ID: probe,
		Destination: interaction.Destination{Host: probe, Loopback: true}}
	resource := interaction.ResourceCard{Name: probe, Identifier: probe}
	return map[string]web.Answer{
		"consent": authorize.Consent{Client: card, Email: probe, Hinted: probe, Resource: resource, Error: probe,
			Request: probe, CSRF: probe,
			Scopes: []authorize.ScopeLine{{Name: probe, Description: probe, New: true, Ticked: true,
				Opens: authorize.Opened{Tools: []authorize.ToolLine{{Name: probe, Title: probe, Text: probe}}}}}},
		"consent, scheme": authorize.Consent{Client: &interaction.ClientCard{ID: "https://" + probe,
			Destination: interaction.Destination{Scheme: probe}}},
		"allowed":    authorize.Answered{Client: card, Resource: resource, Allowed: true},
		"denied":     authorize.Answered{Client: card, Resource: resource},
		"over":       authorize.Answered{Client: card, Resource: resource, Allowed: true, Over: true},
		"by another": authorize.Answered{Client: card, Resource: resource, Other: true},
		"return": authorize.Return{Message: probe, Code: probe, RequestID: probe,
			To: interaction.Destination{Host: probe}, Held: probe, CSRF: probe},
		"return, late": authorize.Return{Message: probe, Code: probe, To: interaction.Destination{Host: probe},
			Held: probe, CSRF: probe, Again: "/oauth2/authorize?state=" + probe},
		"return, scheme": authorize.Return{Message: probe, Code: probe, To: interaction.Destination{Scheme: probe},
			Held: probe, CSRF: probe},
	}
}

func TestPages(t *testing.T) {
	for name, page := range views("x") {
		t.Run("HT-01 CN-18 "+name, func(t *testing.T) {
			webtest.Headers(t, page, strings.HasPrefix(name, "consent") || strings.HasPrefix(name, "return"))
		})
	}
	for _, probe := range webtest.Probes {
		for name, page := range views(probe) {
			t.Run("AZ-56 AZ-48 DC-06 "+name, func(t *testing.T) { webtest.Inert(t, page, probe) })
		}
	}
}

// cardOf returns the card of a client with the given redirect URI.
func cardOf(c *oauth.Client, redirectURI string) *interaction.ClientCard {
	return (&interaction.Authorization{Client: c, Reply: interaction.Reply{RedirectURI: redirectURI}}).Card()
}

func TestConsentView(t *testing.T) {
	consent := authorize.Consent{
		Client: cardOf(&oauth.Client{ID: "https://claude.ai/oauth/metadata",
			Metadata: oauth.Metadata{Name: "Claude Code"}}, "http://127.0.0.1:5000/cb"),
		Email:    "ada@example.com",
		Resource: interaction.ResourceCard{Name: "Weather", Identifier: "https://mcp.example.com/mcp"},
		Scopes: []authorize.ScopeLine{
			{Name: "mcp:tools:weather", Description: "Look up forecasts", Ticked: true},
			{Name: "mcp:tools:email:send", Description: "Send e-mail", New: true, Ticked: true},
		},
		Request: "sealed", CSRF: "token",
	}
	page := webtest.Show(t, consent)
	t.Run("CN-17 what it says", func(t *testing.T) {
		for _, want := range []string{
			"Claude Code", "claude.ai", "unverified", "ada@example.com", "An app on this computer", "127.0.0.1",
			"any program could be the one that asks",
			"Weather", "https://mcp.example.com/mcp", "Look up forecasts", "mcp:tools:weather",
			"Send e-mail new mcp:tools:email:send",
		} {
			if !strings.Contains(webtest.Text(page), want) {
				t.Errorf("the page does not say %q: %s", want, webtest.Text(page))
			}
		}
	})
	t.Run("the form", func(t *testing.T) {
		for _, want := range []string{
			`<form method="post" action="/consent">`, `<input type="hidden" name="request" value="sealed">`,
			`<input type="hidden" name="csrf" value="token">`,
			`<input type="checkbox" name="scope" value="mcp:tools:weather" checked>`,
			`<input type="checkbox" name="scope" value="mcp:tools:email:send" checked>`,
			`name="decision" value="deny"`, `name="decision" value="allow"`,
			`<a href="/login?request=sealed">Not you?</a>`,
		} {
			if !strings.Contains(page, want) {
				t.Errorf("the page has no %s", want)
			}
		}
		if strings.Index(page, `value="deny"`) > strings.Index(page, `value="allow"`) {
			t.Error("deny does not come first")
		}
		enter := strings.Index(page, `<button type="submit" hidden></button>`)
		if enter < 0 || enter > strings.Index(page, `value="deny"`) {
			t.Error("the Enter key would decide")
		}
	})
	t.Run("a step up: what is new comes first, the rest is folded away and stays ticked", func(t *testing.T) {
		said := webtest.Text(page)
		fresh, before := strings.Index(said, "It asks for one more permission: "), strings.Index(said,
			"You allowed before: ")
		if fresh < 0 || before < fresh || !strings.Contains(said, "Allow Claude Code to do more at Weather ?") ||
			strings.Index(said, "Send e-mail") > before || strings.Index(said, "Look up forecasts") < before {
			t.Errorf("the page says:\n%s", said)
		}
		if !strings.Contains(page[strings.LastIndex(page, "<details"):], `value="mcp:tools:weather" checked`) {
			t.Error("what was allowed before is not folded away, or not ticked")
		}
	})
	t.Run("risks are set apart, the gravest first", func(t *testing.T) {
		c := consent
		c.Scopes = []authorize.ScopeLine{
			{Name: "act", Description: "Send e-mail", Risk: oauth.RiskAct}, {Name: "plain", Description: "Something"},
			{Name: "change", Description: "Change events", Risk: oauth.RiskChange},
			{Name: "read", Description: "Read events", Risk: oauth.RiskRead},
		}
		said, at := webtest.Text(webtest.Show(t, c)), 0
		for _, want := range []string{
			"act in your name: ", "Send e-mail", "to change: ", "Change events", "look at: ", "Read events",
			"able to: ", "Something",
		} {
			i := strings.Index(said[at:], want)
			if i < 0 {
				t.Fatalf("%q does not come next in %s", want, said)
			}
			at += i
		}
	})
	t.Run("an approved client that answers on the web", func(t *testing.T) {
		c := consent
		c.Client = cardOf(&oauth.Client{ID: "mcp_1", Metadata: oauth.Metadata{Name: "Bot"},
			ApprovedAt: time.Unix(1, 0)}, "https://Bot.example:8443/cb")
		c.Scopes = nil
		said := webtest.Text(webtest.Show(t, c))
		for _, want := range []string{"mcp_1", "approved", "bot.example:8443", "only to connect"} {
			if !strings.Contains(said, want) {
				t.Errorf("the page does not say %q: %s", want, said)
			}
		}
		for _, bad := range []string{"unverified", "any program", "this computer"} {
			if strings.Contains(said, bad) {
				t.Errorf("the page says %q", bad)
			}
		}
	})
	t.Run("CN-14 CN-13 a name that lies", func(t *testing.T) {
		c := consent
		c.Client = &interaction.ClientCard{ID: consent.Client.ID}
		c.Client.Name = "\u202egro.live\u202c\u200b  Cl\u0430ude\n\nCode" + strings.Repeat(" and more", 2000)
		page := webtest.Show(t, c)
		if strings.ContainsAny(page, "\u202e\u202c\u200b") || strings.Count(page, "and more") > 30 {
			t.Error("the name was not cleaned")
		}
		if !strings.Contains(page, "<bdi>gro.live Cl\u0430ude Code and more") ||
			!strings.Contains(webtest.Text(page), "claude.ai") {
			t.Error("the name is not isolated, or shown without the host")
		}
	})
	t.Run("a name of nothing", func(t *testing.T) {
		c := consent
		c.Client, c.Resource.Name, c.Scopes = &interaction.ClientCard{Name: "\u200b\u3164"}, "", nil
		said := webtest.Text(webtest.Show(t, c))
		if !strings.Contains(said, "Allow An unnamed application to use an MCP server?") {
			t.Errorf("the page says:\n%s", said)
		}
	})
}
