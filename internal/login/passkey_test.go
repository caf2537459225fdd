package login_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// holders runs test on both databases, each time with a new server and a person who has a passkey in device and is signed
// in nowhere.
func holders(t *testing.T, test func(t *testing.T, s *servertest.Server, ada *servertest.Person, device *servertest.Authenticator)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		s := servertest.New(t, db, clock, servertest.Localhost)
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
		ada := s.User("ada@example.com")
		device := s.Authenticator(t)
		addPasskey(t, s, s.Browser(t), ada, device)
		test(t, s, ada, device)
	})
}

// addPasskey signs a person in by password and adds a passkey to their account.
func addPasskey(t *testing.T, s *servertest.Server, b *servertest.Browser, who *servertest.Person, device *servertest.Authenticator) {
	t.Helper()
	page := b.Get("/account/security/passkeys/new").SignIn(who)
	if page = page.WithPasskey(device.Create(page)); !strings.Contains(page.Body, "Your passkey is added.") {
		t.Fatalf("status %d:\n%s", page.Status, page.Body)
	}
}

// A person adds a passkey, signs in with it to connect an agent, and the token says with what.
func TestPasskey(t *testing.T) {
	holders(t, func(t *testing.T, s *servertest.Server, ada *servertest.Person, device *servertest.Authenticator) {
		agent := s.Agent(t, s.Client())
		device.Synced = true
		page := s.Browser(t).Authorize(agent.Authorization())
		tokens := agent.Exchange(page.WithPasskey(device.Use(page)).Allow().Code()).Tokens()
		claims := servertest.Claims(t, tokens.Access)
		if claims.Subject != ada.ID || !slices.Equal(claims.AMR, []string{"swk", "user", "mfa"}) || claims.ACR != "aal2" {
			t.Errorf("the token says %+v", claims)
		}
	})
}
