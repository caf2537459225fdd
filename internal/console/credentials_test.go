package console_test

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

func TestCredentials(t *testing.T) {
	s := servertest.StartMCP(t)
	b := staff(t, s, identity.Operator)
	says(t, b.Get("/admin/credentials"), 200, "No API credentials yet", "/admin/api")

	form := b.Get("/admin/credentials/new")
	says(t, form, 200, `value="cardea:clients:write"`, `value="cardea:events:read"`)
	// An operator has none of them.
	lacks(t, form, `value="cardea:users:write"`, `value="cardea:*"`, `value="cardea:keys:write"`)
	create := func(name string, with url.Values) *servertest.Page {
		t.Helper()
		page := b.Get("/admin/credentials/new")
		values := page.Form("name").Values()
		values.Set("name", name)
		values.Set("expiry", "90d")
		for k, v := range with {
			values[k] = v
		}
		return b.Post("/admin/credentials", values)
	}
	t.Run("what is wrong is told on the form", func(t *testing.T) {
		says(t, create("Bot", nil), 422, "Choose at least one scope", `value="Bot"`)
		for _, days := range []string{"", "0", "-1", "3651", "1.5", "many"} {
			says(t, create("Bot", url.Values{"scope": {"cardea:clients:read"}, "expiry": {"custom"}, "days": {days}}),
				422, "“Days” is a whole number")
		}
		says(t, create("Bot", url.Values{"scope": {"cardea:clients:read"}, "expiry": {"never"}}), 422,
			"“Days” is a whole number")
		says(t, create("", url.Values{"scope": {"cardea:clients:read"}}), 422, "“Name”")
	})
	t.Run("nobody gives more than they hold", func(t *testing.T) {
		for _, scope := range []string{"cardea:users:write", "cardea:*"} {
			says(t, create("Bot", url.Values{"scope": {scope}}), 403, "which you may not")
		}
	})
	const script = "<script>alert(1)</script>"
	made := create("Bot "+script, url.Values{"scope": {"cardea:clients:read", "cardea:events:read"}})
	says(t, made, 200, "Copy the secret now", "API credentials are created")
	lacks(t, made, script)
	secret := secretOf(t, made)
	list := b.Get("/admin/credentials")
	says(t, list, 200, "<code>cardea:clients:read</code>", "last used never", "expires <time")
	lacks(t, list, script, secret)
	var roll, remove string
	for _, link := range list.Links() {
		switch {
		case strings.HasSuffix(link, "/roll"):
			roll = link
		case strings.HasSuffix(link, "/delete"):
			remove = link
		}
	}

	t.Run("the roles", func(t *testing.T) {
		auditor := staff(t, s, identity.Auditor)
		page := auditor.Get("/admin/credentials")
		says(t, page, 200, "<code>cardea:clients:read</code>")
		lacks(t, page, "/roll", "/delete", "/new")
		says(t, auditor.Get("/admin/credentials/new"), 403)
		says(t, auditor.Get(roll), 403)
		nobody := s.Browser(t)
		nobody.Get("/admin").SignIn(s.User("nobody@example.com"))
		for _, path := range []string{"/admin/credentials", "/admin/credentials/new", roll, remove} {
			says(t, nobody.Get(path), 403)
		}
	})
	t.Run("a new secret is shown once", func(t *testing.T) {
		confirm := b.Get(roll)
		says(t, confirm, 200, "old secret works for another 24 hours")
		if again := secretOf(t, confirm.Submit(confirm.Form("csrf"))); again == secret {
			t.Error("the secret is the same")
		}
	})
	t.Run("a client of another kind has no page here", func(t *testing.T) {
		other := s.Client()
		for _, verb := range []string{"roll", "delete"} {
			says(t, b.Get("/admin/credentials/"+other.ID+"/"+verb), 404)
		}
	})
	t.Run("an old sign-in is not enough", func(t *testing.T) {
		confirm := b.Get(remove)
		s.Clock.Advance(16 * time.Minute)
		for _, page := range []*servertest.Page{b.Get("/admin/credentials/new"), b.Get(roll),
			confirm.Submit(confirm.Form("csrf"))} {
			if !page.IsSignIn() {
				t.Errorf("%s: %d\n%s", page.URL, page.Status, page.Body)
			}
		}
		says(t, b.Get("/admin/credentials"), 200, "cardea:clients:read")
	})
	t.Run("deleted", func(t *testing.T) {
		b := staff(t, s, identity.Owner)
		form := b.Get("/admin/credentials/new")
		if all := form.Form("name").Options("scope"); !slices.Contains(all, "cardea:*") {
			t.Errorf("an owner may give %v", all)
		}
		confirm := b.Get(remove)
		says(t, confirm.Submit(confirm.Form("csrf")), 200, "The API credentials are deleted", "No API credentials yet")
	})
}

// secretOf returns the secret that a page shows.
func secretOf(t *testing.T, page *servertest.Page) string {
	t.Helper()
	m := regexp.MustCompile(`<code class="secret">([^<]+)</code>`).FindStringSubmatch(page.Body)
	if m == nil {
		t.Fatalf("%s: %d shows no secret:\n%s", page.URL, page.Status, page.Body)
	}
	return m[1]
}
