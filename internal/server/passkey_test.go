package server_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// device gives the browser an authenticator, such as a phone's, that unlocks its passkeys if verifies.
func device(t *testing.T, ctx context.Context, verifies bool) { //nolint:revive // t first
	t.Helper()
	if _, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{
		Options: &webauthn.VirtualAuthenticatorOptions{
			Protocol: webauthn.AuthenticatorProtocolCtap2, Transport: webauthn.AuthenticatorTransportInternal,
			HasResidentKey: true, HasUserVerification: true, IsUserVerified: verifies,
			AutomaticPresenceSimulation: true, DefaultBackupEligibility: true, DefaultBackupState: true,
		}}); err != nil {
		t.Fatal(err)
	}
}

// A person adds a passkey to their account, and lets an agent in with it, in a browser. axe-core finds nothing on the
// way.
func TestPasskeyInABrowser(t *testing.T) {
	for _, screen := range screens {
		t.Run(screen.name, func(t *testing.T) {
			db, clock := storetest.Open(t, storetest.SQLite)
			clock.Set(time.Now()) // the MCP server and the browser have clocks of their own
			s := servertest.New(t, db, clock, servertest.Localhost)
			w := newForecasts(t)
			s.Resource(w.Resource, "*mcp:tools:weather=Weather forecasts")
			w.protect(t, s.URL)
			ada := s.User("ada@example.com")
			ctx, look, visit := lens(t, screen.width, screen.height, screen.scheme)
			device(t, ctx, true)
			do := func(what string, actions ...chromedp.Action[chromedp.Void]) {
				t.Helper()
				soon, cancel := context.WithTimeout(ctx, time.Minute) // WebAuthn waits for a device for ever
				defer cancel()
				if err := chromedp.Do(soon, actions...); err != nil {
					html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("body")))
					t.Fatalf("%s: %v\n%s", what, err, html)
				}
				look(what)
			}
			button := chromedp.CSS(`form[data-passkey] button`)

			visit("sign-in", s.URL+"/account/security/passkeys/new", `form[data-passkey] button`)
			do("adding a passkey", chromedp.SendKeys(chromedp.CSS(`input[name="email"]`), ada.Email),
				chromedp.SendKeys(chromedp.CSS(`input[name="password"]`), ada.Password+"\r"),
				chromedp.WaitVisible(chromedp.CSS(`form[data-new-passkey] button`)))
			do("passkeys", chromedp.Click(chromedp.CSS(`form[data-new-passkey] button`)),
				chromedp.WaitVisible(chromedp.CSS(`form[action$="/remove"]`)))
			do("renaming a passkey", chromedp.Click(chromedp.CSS(`summary`)),
				chromedp.WaitVisible(chromedp.CSS(`form[action$="/rename"] button`)))
			do("the same device again", chromedp.Navigate(s.URL+"/account/security/passkeys/new"),
				chromedp.Click(chromedp.CSS(`form[data-new-passkey] button`)),
				chromedp.WaitVisible(chromedp.CSS(`[data-problem]`)))

			signedOut := func() {
				t.Helper()
				do("signed out", chromedp.Navigate(s.URL+"/logout"),
					chromedp.Click(chromedp.CSS(`form[action="/logout"] button`)),
					chromedp.WaitVisible(chromedp.CSS(`main:not(:has(form)) h1`)))
			}
			allow := chromedp.CSS(`button[value="allow"]`)
			signedOut()
			// The device chooses the passkey that the browser offers where the address is typed.
			w.call(t, ctx, chromedp.WaitVisible(allow), chromedp.Click(allow))
			signedOut()
			if _, err := chromedp.Call(ctx, page.AddScriptToEvaluateOnNewDocument,
				page.AddScriptToEvaluateOnNewDocumentParams{
					Source: `PublicKeyCredential.isConditionalMediationAvailable = undefined`}); err != nil {
				t.Fatal(err)
			}
			w.call(t, ctx, chromedp.WaitVisible(button), chromedp.Click(button), chromedp.WaitVisible(allow),
				chromedp.Click(allow))
			// As the second step after a password, where the MCP server demands one.
			s.Update(func(tx *store.Tx) error {
				r, err := tx.Resource(w.Resource)
				if err != nil {
					return err
				}
				r.SecondFactor = true
				return tx.UpdateResource(r)
			})
			signedOut()
			w.call(t, ctx, filled(`#email`, ada.Email), filled(`#password`, ada.Password+"\r"),
				chromedp.WaitNotPresent(chromedp.CSS(`#password`)),
				shown(`form[data-passkey] button`), looked(look, "the second step"), chromedp.Click(button),
				chromedp.WaitVisible(allow), chromedp.Click(allow))
			var methods []string
			for _, e := range s.Events("login.sign_in") {
				methods = append(methods, e.Detail["method"])
			}
			if !slices.Equal(methods, []string{"passkey", "passkey", "passkey", ""}) {
				t.Errorf("people signed in with %q, the last first", methods)
			}
		})
	}
}
