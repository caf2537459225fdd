package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/upstream"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// corp is an edit of the configuration: people sign in with an issuer that creates no accounts by itself.
func corp(issuer *upstreamtest.Issuer, edits ...func(*upstream.Config)) func(*config.Config) {
	at := servertest.Corp(issuer.URL)
	at.Create = false
	return servertest.Provider(at, edits...)
}

// theirs is bob at the issuer, with changes.
func theirs(changes upstreamtest.Claims) upstreamtest.Claims {
	claims := upstreamtest.Claims{"sub": "bob-at-corp", "email": "Bob@Example.com", "email_verified": true,
		"name": "Bob there"}
	for name, value := range changes {
		claims[name] = value
	}
	return claims
}

// leaving posts the form of an invitation with the button of the provider, and returns where the browser is sent.
func leaving(t *testing.T, b *servertest.Browser, token string, tweaks ...servertest.Tweak) string {
	t.Helper()
	page := b.Get("/invite")
	page = page.Submit(page.Form("token"), append([]servertest.Tweak{servertest.With("token", token),
		servertest.With("via", "corp")}, tweaks...)...)
	if page.Location == "" {
		t.Fatalf("the form leads nowhere: %d %s", page.Status, page.Body)
	}
	if strings.Contains(page.Location, token) {
		t.Fatalf("the provider is told the token: %s", page.Location)
	}
	return page.Location
}

// returning opens the address that the provider sends a browser back to.
func returning(b *servertest.Browser, location string) *servertest.Page {
	return b.Get(location, servertest.Header("Sec-Fetch-Site", "cross-site"))
}

// A person makes the account that they were invited to with their account at a provider, which creates none by itself,
// and signs in with it from then on.
func TestInvitationByProvider(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		issuer := upstreamtest.NewIssuer(t, "")
		o := &admin.Operations{DB: db}
		for _, name := range []string{"staff", "sales"} {
			if _, err := o.CreateGroup(t.Context(), root, name, admin.GroupTerms{}); err != nil {
				t.Fatal(err)
			}
		}
		s := servertest.New(t, db, clock, corp(issuer, func(c *upstream.Config) {
			c.GroupsClaim, c.GroupMap = "groups", map[string]string{"Sales": "sales"}
		}))
		s.Resource(servertest.MCP, "*mcp:tools:weather=Weather forecasts")
		issuer.SignIn(theirs(upstreamtest.Claims{"groups": []string{"Sales"}}))
		token := invited(t, s, root,
			admin.NewInvitation{Email: "bob@example.com", Role: identity.Operator, Groups: []string{"staff"}})
		b := s.Browser(t)
		forth := leaving(t, b, token)
		if hint := query(t, forth).Get("login_hint"); hint != "bob@example.com" {
			t.Errorf("login_hint is %q", hint)
		}
		back := issuer.Visit(forth)
		page := returning(b, back)
		if page.Status != http.StatusOK || at(page) != "/account" {
			t.Fatalf("%d %s %s", page.Status, page.URL, page.Body)
		}
		u := person(t, db, "bob@example.com")
		if u == nil || u.Role != identity.Operator || u.Name != "Bob there" || u.PasswordHash != "" ||
			u.EmailVerifiedAt.IsZero() {
			t.Fatalf("the account is %+v", u)
		}
		var identities []*identity.Identity
		var groups map[string][]string
		s.Update(func(tx *store.Tx) (err error) {
			if identities, err = tx.Identities(u.ID); err == nil {
				groups, err = tx.UserGroups(u.ID)
			}
			return err
		})
		if len(identities) != 1 || identities[0].Subject != "bob-at-corp" ||
			strings.Join(groups[u.ID], " ") != "sales staff" {
			t.Errorf("identities %+v, groups %v", identities, groups)
		}
		if e := s.Events("invitation.accept"); len(e) != 1 || e[0].UserID != u.ID {
			t.Errorf("the events are %+v", e)
		}
		says(t, "a reload", returning(b, back), http.StatusOK, `href="/account"`)
		says(t, "LG-29 in another browser", returning(s.Browser(t), back), http.StatusForbidden,
			"begun in another browser")

		agent, again := s.Agent(t, s.Client()), s.Browser(t)
		page = again.Authorize(agent.Authorization())
		for _, link := range page.Links() {
			if strings.HasPrefix(link, "/login/corp") {
				page = returning(again, issuer.Visit(page.Follow(link).Location))
			}
		}
		code := query(t, page.Allow().Location).Get("code")
		if claims := servertest.Claims(t, agent.Exchange(code).Tokens().Access); claims.Subject != u.ID {
			t.Errorf("the token is of %s, want %s", claims.Subject, u.ID)
		}
	})
}

// What a provider says of another person, or does not say for sure, makes no account, and leaves the invitation as it
// is.
func TestInvitationByProviderRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		issuer := upstreamtest.NewIssuer(t, "")
		s := servertest.New(t, db, clock, corp(issuer))
		s.MayFault = true // for 503
		token := invited(t, s, root, admin.NewInvitation{Email: "bob@example.com", Role: identity.Owner})
		none := func(why string) {
			t.Helper()
			if u := person(t, db, "bob@example.com"); u != nil {
				t.Fatalf("%s: there is an account: %+v", why, u)
			}
		}
		for why, c := range map[string]struct {
			claims upstreamtest.Claims
			says   string
		}{
			"another address": {theirs(upstreamtest.Claims{"email": "eve@example.com"}),
				"another e-mail address than the one that Corp"},
			"LG-30 an unverified address": {theirs(upstreamtest.Claims{"email_verified": false}),
				"another e-mail address than the one that Corp"},
			"LG-30 verified in words": {theirs(upstreamtest.Claims{"email_verified": "true"}),
				"another e-mail address than the one that Corp"},
			"LG-30 an address that is like": {theirs(upstreamtest.Claims{"email": "b\u043eb@example.com"}),
				"another e-mail address than the one that Corp"},
			"no address": {theirs(upstreamtest.Claims{"email": ""}),
				"another e-mail address than the one that Corp"},
			"nobody signed in": {nil, "You did not sign in with Corp"},
		} {
			issuer.SignIn(c.claims)
			b := s.Browser(t)
			page := returning(b, issuer.Visit(leaving(t, b, token)))
			says(t, why, page, http.StatusForbidden, c.says)
			says(t, why, page, http.StatusForbidden, "Open the link of your invitation again")
			none(why)
		}
		issuer.SignIn(theirs(nil))
		says(t, "LG-12 a form of nowhere", s.Browser(t).Post("/invite", url.Values{"token": {token}, "via": {"corp"}}),
			http.StatusForbidden, "open the link again")
		b := s.Browser(t)
		page := b.Get("/invite")
		says(t, "another provider",
			page.Submit(page.Form("token"), servertest.With("token", token), servertest.With("via", "x")),
			http.StatusBadRequest, "That identity provider is not one of this server")
		says(t, "LG-22 a token that is none",
			page.Submit(page.Form("token"), servertest.With("token", "x"), servertest.With("via", "corp")),
			http.StatusForbidden, "the link was cut")

		// LG-29: the state of one browser, of another provider, or of nobody.
		back := issuer.Visit(leaving(t, b, token))
		says(t, "LG-29 other browser", returning(s.Browser(t), back), http.StatusForbidden, "begun in another browser")
		none("LG-29 other browser")
		says(t, "LG-29 no state", b.Get("/login/corp/callback?code=x"), http.StatusForbidden, "not begun here")
		none("LG-29 no state")

		// The invitation ends while the person is at the provider.
		o := &admin.Operations{DB: db, Issuer: s.URL}
		if _, err := o.WithdrawInvitation(t.Context(), root, "bob@example.com"); err != nil {
			t.Fatal(err)
		}
		says(t, "LG-22 withdrawn", returning(b, back), http.StatusForbidden, "was used or withdrawn")
		none("LG-22 withdrawn")

		// Somebody here has that account at the provider already, or the address.
		token = invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"})
		other := s.User("other@example.com")
		s.Update(func(tx *store.Tx) error {
			return tx.CreateIdentity(&identity.Identity{ID: "idn_x", Provider: "corp", Issuer: issuer.URL,
				Subject: "bob-at-corp", UserID: other.ID, CreatedAt: tx.Now(), UsedAt: tx.Now(), ConfirmedAt: tx.Now()})
		})
		page = returning(b, issuer.Visit(leaving(t, b, token)))
		says(t, "connected with another account", page, http.StatusForbidden, "is connected with another account here")
		none("connected with another account")
		back = issuer.Visit(leaving(t, b, token))
		s.User("bob@example.com")
		says(t, "the address is taken", returning(b, back), http.StatusBadRequest,
			"Sign in with it, then open the link again")
		if _, n := 0, len(identitiesOf(t, s, person(t, db, "bob@example.com").ID)); n != 0 {
			t.Errorf("LG-30 the account of the address has %d identities", n)
		}

		issuer.Stop()
		clock.Advance(2 * 3600e9)
		page = s.Browser(t).Get("/invite")
		token = invited(t, s, root, admin.NewInvitation{Email: "carol@example.com"})
		page = page.Submit(page.Form("token"), servertest.With("token", token), servertest.With("via", "corp"))
		says(t, "unreachable", page, http.StatusServiceUnavailable, "cannot be reached")
		if page.Form("token").Values().Get("token") != token {
			t.Error("the token has to be pasted again")
		}
	})
}

func identitiesOf(t *testing.T, s *servertest.Server, userID string) (all []*identity.Identity) {
	t.Helper()
	s.Update(func(tx *store.Tx) (err error) {
		all, err = tx.Identities(userID)
		return err
	})
	return all
}

func query(t *testing.T, address string) url.Values {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

// LG-22: an invitation that many browsers take to the provider at once makes one account, with one of them.
func TestInvitationByProviderOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB, clock *storetest.Clock) {
		issuer := upstreamtest.NewIssuer(t, "")
		s := servertest.New(t, db, clock, corp(issuer))
		token := invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"})
		const n = 8
		var browsers [n]*servertest.Browser
		var backs [n]string
		for i := range n {
			issuer.SignIn(theirs(upstreamtest.Claims{"sub": "bob-" + string(rune('a'+i))}))
			browsers[i] = s.Browser(t)
			backs[i] = issuer.Visit(leaving(t, browsers[i], token))
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		in := 0
		for i := range n {
			all.Go(func() {
				if page := returning(browsers[i], backs[i]); at(page) == "/account" {
					mu.Lock()
					in++
					mu.Unlock()
				} else if page.Status != http.StatusForbidden && page.Status != http.StatusBadRequest {
					t.Errorf("%d %s", page.Status, page.Body)
				}
			})
		}
		all.Wait()
		u := person(t, db, "bob@example.com")
		if in != 1 || u == nil || len(identitiesOf(t, s, u.ID)) != 1 {
			t.Errorf("LG-22 %d came in, as %+v", in, u)
		}
	})
}

// People whose address belongs to a provider sign in there, so that is where their account is made; and where there is
// no other way, the page offers none.
func TestInvitationOfAProvidersDomain(t *testing.T) {
	issuer := upstreamtest.NewIssuer(t, "")
	issuer.SignIn(theirs(nil))
	s := servertest.Start(t, corp(issuer, func(c *upstream.Config) { c.Domains = []string{"example.com"} }))
	b := s.Browser(t)
	page := accepted(b.Get("/invite"), invited(t, s, root, admin.NewInvitation{Email: "bob@example.com"}))
	if page = returning(b, issuer.Visit(page.Location)); at(page) != "/account" {
		t.Errorf("%d %s", page.Status, page.Body)
	}
	if u := person(t, s.DB, "bob@example.com"); u == nil || u.PasswordHash != "" || u.Name != "Bob" {
		t.Errorf("the account is %+v", u)
	}

	only := servertest.Start(t, corp(issuer), func(c *config.Config) { c.Login.Methods = nil })
	page = only.Browser(t).Get("/invite")
	if strings.Contains(page.Body, "Make my account") || strings.Contains(page.Body, `type="password"`) {
		t.Errorf("the page offers what nobody can sign in with: %s", page.Body)
	}
	token := invited(t, only, root, admin.NewInvitation{Email: "bob@example.com"})
	says(t, "no provider", page.Submit(page.Form("token"), servertest.With("token", token), servertest.Without("via")),
		http.StatusBadRequest, "choose another way")
}
