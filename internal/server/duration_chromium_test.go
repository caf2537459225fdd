package server_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/server/servertest"
)

// In browsers without scripts, a person allows an agent something for a time, until they sign out, or until they
// disconnect it on the page of their account. Once that has ended, the agent's next call of a tool is refused, and it
// has to ask the person again.
func TestDurationInChromium(t *testing.T) {
	for _, tt := range []struct {
		name, choice string
		end          func(ctx context.Context, s *servertest.Server) error
	}{
		{"8 hours", "8", func(_ context.Context, s *servertest.Server) error {
			s.Clock.Advance(8 * time.Hour)
			return nil
		}},
		{"until they sign out", "Until I s", func(ctx context.Context, s *servertest.Server) error {
			return chromedp.Do(ctx, chromedp.Navigate(s.URL+"/logout"), pressed(`form[action="/logout"] button`),
				chromedp.WaitNotPresent(chromedp.CSS(`form`)))
		}},
		{"until they disconnect it", "Until I d", func(ctx context.Context, s *servertest.Server) error {
			return chromedp.Do(ctx, chromedp.Navigate(s.URL+"/account"), pressed(`form[action$="/revoke"] button`),
				shown(`form[action$="/undo"]`))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNow(t, func(c *config.Config) { c.Tokens.AccessTTL = 24 * time.Hour }) // or the token would end first
			w := newForecasts(t)
			s.Resource(w.Resource, "*mcp:tools:weather=Weather forecasts")
			strict := s.Client(servertest.Confidential, servertest.ResourceServer(w.Resource))
			w.protect(t, s.URL, func(c *guard.Config) {
				c.Introspection, c.Now = &guard.Credentials{ClientID: strict.ID, ClientSecret: strict.Secret}, s.Clock.Now
			})
			ada, ctx := s.User("ada@example.com"), chromium(t)
			call := w.connect(t, ctx, filled(`#email`, ada.Email), filled(`#password`, ada.Password+"\r"),
				filled(`#duration`, tt.choice), pressed(`button[value="allow"]`))
			if err := call(); err != nil {
				t.Fatal(err)
			}
			if err := tt.end(ctx, s); err != nil {
				t.Fatal(err)
			}
			s.Clock.Advance(2 * time.Second) // the guard remembers for a second that the token was active
			if err := call(); !errors.Is(err, errAskedAgain) {
				t.Errorf("the call is answered with %v", err)
			}
		})
	}
}
