package login_test

import (
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/upstream/upstreamtest"
)

// LG-22, LG-24, LG-29: what signs somebody in once does so once when it is sent to two nodes at the same moment, each
// time with the cookies of the browser in which it began.
func TestOnceAtTwoNodes(t *testing.T) {
	onBoth(t, func(t *testing.T, engine storetest.Engine) {
		dsn, clock := storetest.New(t, engine), storetest.NewClock()
		inbox, corp := mailtest.New(t), upstreamtest.NewIssuer(t, "")
		corp.SignIn(ada)
		edits := []func(*config.Config){servertest.Mailed(inbox, "email"),
			servertest.Provider(servertest.Corp(corp.URL)),
			func(c *config.Config) { c.Login.External.URL = appURL }}
		one := servertest.New(t, storetest.Connect(t, dsn, clock), clock, edits...)
		two := servertest.New(t, storetest.Connect(t, dsn, clock), clock,
			append(edits, func(c *config.Config) { c.Issuer = one.URL })...)
		person := one.User("bob@example.com")
		app, recovery := withApp(t, one, person)
		plain := one.User("carl@example.com")
		a := &application{t: t, s: one}
		a.client = a.register()

		// Of each: what a browser of node one begins, and how two browsers with its cookies end it.
		type end func(b *servertest.Browser) *servertest.Page
		second := func(code string) func(*servertest.Browser) end {
			return func(b *servertest.Browser) end {
				form := b.Get("/login").SignIn(person).Form("code")
				return func(b *servertest.Browser) *servertest.Page {
					values := form.Values()
					values.Set("code", code)
					return b.Post(form.Action, values)
				}
			}
		}
		letter := func(b *servertest.Browser) (*servertest.Form, mailtest.Mail) {
			page := byEmail(b.Get("/login/email"), plain.Email)
			return page.Form("code"), next(t, one, inbox, plain.Email)
		}
		for name, begin := range map[string]func(*servertest.Browser) end{
			"a code of an app": func(b *servertest.Browser) end { return second(app.code())(b) },
			"a recovery code":  second(recovery[0]),
			"a code in a mail": func(b *servertest.Browser) end {
				form, m := letter(b)
				return func(b *servertest.Browser) *servertest.Page {
					values := form.Values()
					values.Set("code", m.Code())
					return b.Post(form.Action, values)
				}
			},
			"a link in a mail": func(b *servertest.Browser) end {
				_, m := letter(b)
				form := b.Get(m.Link()).Form("token")
				return func(b *servertest.Browser) *servertest.Page { return b.Post(form.Action, form.Values()) }
			},
			"the answer of a provider": func(b *servertest.Browser) end {
				back := corp.Visit(b.Get("/login/corp").Location)
				return func(b *servertest.Browser) *servertest.Page {
					return fromElsewhere(b, strings.TrimPrefix(back, one.URL))
				}
			},
			"the answer of an application": func(b *servertest.Browser) end {
				request, _ := a.begin(b, "/login/external")
				next := a.continues(request, `{"sub":"u1"}`)
				return func(b *servertest.Browser) *servertest.Page {
					return fromElsewhere(b, strings.TrimPrefix(next, one.URL))
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				first := one.Browser(t)
				finish := begin(first)
				var browsers []*servertest.Browser
				for i := range 8 {
					b := []*servertest.Server{one, two}[i%2].Browser(t)
					for name, value := range first.Cookies() {
						b.SetCookie(name, value)
					}
					browsers = append(browsers, b)
				}
				pages := servertest.AtOnce(len(browsers), func(i int) *servertest.Page { return finish(browsers[i]) })
				inside := 0
				for _, b := range browsers {
					if signedIn(b) {
						inside++
					}
				}
				if inside != 1 {
					t.Errorf("%d browsers are signed in", inside)
					for _, page := range pages {
						t.Logf("%d %s", page.Status, page.URL)
					}
				}
			})
		}
	})
}
