package login_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/identity"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
)

// application is an application with its own sign-in page.
type application struct {
	t      *testing.T
	s      *servertest.Server
	client *servertest.Client
}

const appURL = "https://app.example.com/cardea-login?theme=dark"

// startApp runs a server on which people sign in with an application.
func startApp(t *testing.T, edits ...func(*config.Config)) *application {
	t.Helper()
	s := servertest.StartWeather(t, append(edits,
		func(c *config.Config) { c.Login.External.URL, c.Login.Methods = appURL, nil })...)
	a := &application{t: t, s: s}
	a.client = a.register()
	return a
}

// register makes the client of the application.
func (a *application) register() *servertest.Client {
	c := a.s.Client(servertest.Confidential,
		func(c *oauth.Client) { c.RedirectURIs, c.GrantTypes, c.ResponseTypes = nil, nil, nil })
	a.s.Update(func(tx *store.Tx) error { return tx.SetLoginClient(c.ID) })
	return c
}

// begin sends a browser to the application, and returns the login request with which it comes there.
func (a *application) begin(b *servertest.Browser, path string) (loginRequest, state string) {
	a.t.Helper()
	return a.came(b.Get(path))
}

// came returns the login request of a page that leads to the application.
func (a *application) came(page *servertest.Page) (loginRequest, state string) {
	a.t.Helper()
	u, err := url.Parse(page.Location)
	if err != nil || u.Host != "app.example.com" || u.Path != "/cardea-login" || u.Query().Get("theme") != "dark" ||
		!strings.HasPrefix(u.Query().Get("login_request"), "lrq_") || u.Query().Get("state") == "" {
		a.t.Fatalf("the browser is not sent to the application but to %q (status %d):\n%s", page.Location, page.Status,
			page.Body)
	}
	return u.Query().Get("login_request"), u.Query().Get("state")
}

// answer sends the application's answer, and returns the status and the members of the response.
func (a *application) answer(c *servertest.Client, loginRequest, body string) (int, map[string]string) {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.s.URL+"/login/external/"+loginRequest,
		bytes.NewBufferString(body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c != nil {
		r.SetBasicAuth(url.QueryEscape(c.ID), url.QueryEscape(c.Secret))
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	members := map[string]string{}
	if err == nil {
		err = json.Unmarshal(text, &members)
	}
	if err != nil {
		a.t.Fatalf("the answer to %s is %d %s: %v", body, resp.StatusCode, text, err)
	}
	return resp.StatusCode, members
}

// continues sends a good answer and returns where the browser goes on.
func (a *application) continues(loginRequest, body string) string {
	a.t.Helper()
	status, members := a.answer(a.client, loginRequest, body)
	if status != http.StatusOK ||
		!strings.HasPrefix(members["continue_url"], a.s.URL+"/login/external/continue?state=") {
		a.t.Fatalf("the answer to %s is %d %v", body, status, members)
	}
	return members["continue_url"]
}

// signIn lets an agent in for the person of an answer, and returns sub and amr of its token.
func (a *application) signIn(body string) (sub string, amr any) {
	a.t.Helper()
	agent := a.s.Agent(a.t, a.s.Client())
	b := a.s.Browser(a.t)
	request, _ := a.came(b.Authorize(agent.Authorization()))
	page := fromElsewhere(b, a.continues(request, body))
	if !page.IsConsent() {
		a.t.Fatalf("not the consent page (status %d):\n%s", page.Status, page.Body)
	}
	u, err := url.Parse(page.Allow().Location)
	if err != nil {
		a.t.Fatal(err)
	}
	return claimsOf(a.t, agent.Exchange(u.Query().Get("code")).Tokens().Access)
}

func TestExternal(t *testing.T) {
	t.Run("a sign-in ends with a token, and the same sub is the same person", func(t *testing.T) {
		a := startApp(t)
		first, amr := a.signIn(`{"sub":"u1","email":"ada@example.com","email_verified":true,"name":"Ada",` +
			`"amr":["pwd","otp","mfa"]}`)
		if again, _ := a.signIn(`{"sub":"u1"}`); again != first || len(amr.([]any)) != 4 {
			t.Errorf("%s and %s, amr %v", first, again, amr)
		}
		if other, _ := a.signIn(`{"sub":"u2","email":"ada@example.com","email_verified":true}`); other == first {
			t.Error("another sub with the same address is the same person")
		}
	})
	t.Run("people without an address are called by their names, and guesses at one do not count for others",
		func(t *testing.T) {
			a := startApp(t, limited, func(c *config.Config) { c.Login.SecondFactor = "required" })
			comes := func(sub, name string) (*servertest.Browser, *servertest.Page) {
				b := a.s.Browser(t)
				request, _ := a.begin(b, "/account")
				return b, fromElsewhere(b, a.continues(request, `{"sub":"`+sub+`","name":"`+name+`"}`))
			}
			apps := map[string]*app{}
			for sub, name := range map[string]string{"u1": "Ada", "u2": "Bob"} {
				b, page := comes(sub, name)
				apps[sub] = scan(t, a.s, page)
				said := page.Body
				said += enter(page, apps[sub].code()).Body + b.Get("/account/delete").Body
				for _, want := range []string{"for <strong><bdi>" + name, `<p class="who"><bdi>` + name,
					"Delete the account <strong><bdi>" + name} {
					if !strings.Contains(said, want) {
						t.Errorf("the pages do not say %q:\n%s", want, said)
					}
				}
				agent := a.s.Agent(t, a.s.Client())
				if page := b.Authorize(agent.Authorization()); !strings.Contains(page.Body, "signed in as <strong><bdi>"+name) {
					t.Errorf("the consent page is\n%s", page.Body)
				}
			}
			a.s.Clock.Advance(time.Minute)
			_, page := comes("u1", "Ada")
			for range 6 {
				enter(page, "000000")
			}
			if page := enter(page, apps["u1"].code()); page.Status != http.StatusTooManyRequests {
				t.Errorf("status %d of the right code during the back-off, want 429", page.Status)
			}
			if _, page := comes("u2", "Bob"); enter(page, apps["u2"].code()).Status >= 400 {
				t.Error("guesses at Ada's code keep Bob out")
			}
		})
	t.Run("a sub is known within its application only", func(t *testing.T) {
		a := startApp(t)
		first, _ := a.signIn(`{"sub":"u1"}`)
		a.s.Update(func(tx *store.Tx) error { return tx.DeleteClient(a.client.ID) })
		a.client = a.register()
		if second, _ := a.signIn(`{"sub":"u1"}`); second == first {
			t.Error("the sub of another application is the same person")
		}
	})
	t.Run("LG-30 an address joins no account", func(t *testing.T) {
		a := startApp(t)
		local := a.s.User("ada@example.com")
		a.s.Update(func(tx *store.Tx) error { return tx.VerifyEmail(local.ID, local.Email) })
		for _, verified := range []string{"true", "false", `"true"`, "1"} {
			sub, _ := a.signIn(`{"sub":"u` + strings.Trim(verified, `"`) +
				`","email":"ada@example.com","email_verified":` + verified + `}`)
			if sub == local.ID {
				t.Errorf("email_verified %s joins the account", verified)
			}
		}
	})
	t.Run("groups are set at each answer that has them, and others stay", func(t *testing.T) {
		a := startApp(t)
		groups := map[string]string{}
		a.s.Update(func(tx *store.Tx) error {
			for _, name := range []string{"staff", "chess", "other"} {
				groups[name] = oauth.NewID("grp_")
				if err := tx.CreateGroup(&identity.Group{ID: groups[name], Name: name,
					CreatedAt: tx.Now()}); err != nil {
					return err
				}
			}
			return nil
		})
		for _, step := range []struct{ groups, want string }{
			{`["staff","chess"]`, "chess staff"}, {`["chess"]`, "chess other"},
			{`null`, "chess other"}, {`[]`, "other"},
		} {
			id, _ := a.signIn(`{"sub":"u1","groups":` + step.groups + `}`)
			a.s.Update(func(tx *store.Tx) error {
				got, err := tx.UserGroups(id)
				if text := strings.Join(got[id], " "); text != step.want {
					t.Errorf("after %s: %s, want %s", step.groups, text, step.want)
				}
				if err == nil {
					_, err = tx.AddMember(groups["other"], id) // by an operator
				}
				return err
			})
		}
		request, _ := a.begin(a.s.Browser(t), "/login")
		if status, said := a.answer(a.client, request, `{"sub":"u1","groups":["nobody"]}`); status != 400 ||
			!strings.Contains(said["error_description"], "nobody") {
			t.Errorf("%d %v", status, said)
		}
	})
	t.Run("an error reaches the agent as access_denied", func(t *testing.T) {
		a := startApp(t)
		agent := a.s.Agent(t, a.s.Client())
		b := a.s.Browser(t)
		request, _ := a.came(b.Authorize(agent.Authorization()))
		page := fromElsewhere(b, a.continues(request, `{"error":"access_denied"}`))
		if u, err := url.Parse(page.Location); err != nil || u.Query().Get("error") != "access_denied" ||
			u.Query().Has("code") {
			t.Errorf("the browser goes to %q (status %d)", page.Location, page.Status)
		}
		request, _ = a.begin(a.s.Browser(t), "/login")
		says(t, fromElsewhere(a.s.Browser(t), a.continues(request, `{"error":"access_denied"}`)), http.StatusForbidden,
			"another browser")
	})
	t.Run("a reload of continue_url shows where to go on", func(t *testing.T) {
		a := startApp(t)
		b := a.s.Browser(t)
		request, _ := a.begin(b, "/login?return=/account")
		next := a.continues(request, `{"sub":"u1"}`)
		if at := strings.TrimPrefix(fromElsewhere(b, next).URL, a.s.URL); at != "/account" {
			t.Errorf("the sign-in leads to %s", at)
		}
		session := b.Cookies()["cardea_session"]
		again := fromElsewhere(b, next)
		if again.Status != 200 || !strings.Contains(again.Body, `href="/account"`) ||
			b.Cookies()["cardea_session"] != session {
			t.Errorf("status %d:\n%s", again.Status, again.Body)
		}
	})
}

func TestExternalAttacks(t *testing.T) {
	a := startApp(t)
	other := a.s.Client(servertest.Confidential)
	for name, try := range map[string]func(request string) (int, map[string]string){
		"no credentials": func(request string) (int, map[string]string) { return a.answer(nil, request, `{"sub":"u1"}`) },
		"another client": func(request string) (int, map[string]string) { return a.answer(other, request, `{"sub":"u1"}`) },
		"a wrong secret": func(request string) (int, map[string]string) {
			wrong := *a.client
			wrong.Secret = "wrong"
			return a.answer(&wrong, request, `{"sub":"u1"}`)
		},
		"altered":            func(request string) (int, map[string]string) { return a.answer(a.client, request+"A", `{"sub":"u1"}`) },
		"without its prefix": func(request string) (int, map[string]string) { return a.answer(a.client, request[4:], `{"sub":"u1"}`) },
		"no sub": func(request string) (int, map[string]string) {
			return a.answer(a.client, request, `{"email":"ada@example.com"}`)
		},
		"sub and error": func(request string) (int, map[string]string) {
			return a.answer(a.client, request, `{"sub":"u","error":"access_denied"}`)
		},
		"another error":   func(request string) (int, map[string]string) { return a.answer(a.client, request, `{"error":"x"}`) },
		"no JSON":         func(request string) (int, map[string]string) { return a.answer(a.client, request, `sub=u1`) },
		"a number as sub": func(request string) (int, map[string]string) { return a.answer(a.client, request, `{"sub":1}`) },
		"too long": func(request string) (int, map[string]string) {
			return a.answer(a.client, request, `{"sub":"`+strings.Repeat("x", 70000)+`"}`)
		},
		"twice": func(request string) (int, map[string]string) {
			a.continues(request, `{"sub":"u1"}`)
			return a.answer(a.client, request, `{"sub":"u2"}`)
		},
		"after ten minutes": func(request string) (int, map[string]string) {
			a.s.Clock.Advance(10 * time.Minute)
			return a.answer(a.client, request, `{"sub":"u1"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			request, _ := a.begin(a.s.Browser(t), "/login")
			want, ok := map[string]int{"no credentials": 401, "another client": 403, "a wrong secret": 401,
				"altered": 404, "without its prefix": 404, "twice": 409, "after ten minutes": 410}[name]
			if !ok {
				want = 400
			}
			if status, said := try(request); status != want || said["error_description"] == "" {
				t.Errorf("status %d, want %d: %v", status, want, said)
			}
		})
	}
	t.Run("parallel answers: one counts", func(t *testing.T) {
		request, _ := a.begin(a.s.Browser(t), "/login")
		var wait sync.WaitGroup
		statuses := make([]int, 8)
		for i := range statuses {
			wait.Go(func() { statuses[i], _ = a.answer(a.client, request, `{"sub":"u1"}`) })
		}
		wait.Wait()
		good := 0
		for _, status := range statuses {
			if status == http.StatusOK {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%v", statuses)
		}
	})
	for name, end := range map[string]func(tx *store.Tx, id, another string) error{
		"disabled": func(tx *store.Tx, id, _ string) error { return tx.DisableClient(id) },
		"deleted":  func(tx *store.Tx, id, _ string) error { return tx.DeleteClient(id) },
		"replaced by another": func(tx *store.Tx, id, another string) error {
			return errors.Join(tx.DeleteClient(id), tx.SetLoginClient(another))
		},
	} {
		t.Run("an application that is "+name+" signs nobody in with what it said before", func(t *testing.T) {
			a := startApp(t)
			b := a.s.Browser(t)
			request, _ := a.begin(b, "/login?return=/account")
			next := a.continues(request, `{"sub":"u1"}`)
			another := a.s.Client(servertest.Confidential).ID
			a.s.Update(func(tx *store.Tx) error { return end(tx, a.client.ID, another) })
			says(t, fromElsewhere(b, next), http.StatusForbidden, "Nobody is signed in here by ")
			if _, ok := b.Cookies()["cardea_session"]; ok {
				t.Error("somebody is signed in")
			}
		})
	}
	t.Run("another browser does not go on", func(t *testing.T) {
		victim := a.s.Browser(t)
		victim.Get("/login")
		request, _ := a.begin(a.s.Browser(t), "/login")
		page := fromElsewhere(victim, a.continues(request, `{"sub":"attacker"}`))
		says(t, page, http.StatusForbidden, "another browser")
		if _, ok := victim.Cookies()["cardea_session"]; ok {
			t.Error("somebody is signed in")
		}
	})
	t.Run("CN-19 an attacker does not go on after another browser was led to the application", func(t *testing.T) {
		attacker := a.s.Browser(t)
		request, state := a.begin(attacker, "/login")
		// The application knows the browser of the victim, and sends it on.
		next := a.continues(request, `{"sub":"victim"}`)
		says(t, fromElsewhere(attacker, "/login/external/continue?state="+url.QueryEscape(state)), http.StatusForbidden,
			"start again")
		if _, ok := attacker.Cookies()["cardea_session"]; ok {
			t.Error("the attacker is signed in")
		}
		says(t, fromElsewhere(a.s.Browser(t), next), http.StatusForbidden, "another browser")
	})
	t.Run("too late, unknown and unanswered states lead back", func(t *testing.T) {
		b := a.s.Browser(t)
		request, state := a.begin(b, "/login")
		says(t, fromElsewhere(b, "/login/external/continue?state="+state), http.StatusForbidden, "start again")
		says(t, fromElsewhere(b, "/login/external/continue"), http.StatusForbidden, "start again")
		next := a.continues(request, `{"sub":"u1"}`)
		a.s.Clock.Advance(10 * time.Minute)
		says(t, fromElsewhere(b, next), http.StatusForbidden, "start again")
	})
}

// When the person signed in is what the application says, and what a request demands of it (LG-14, OpenID Connect Core
// §3.1.2.1).
func TestExternalAuthTime(t *testing.T) {
	a := startApp(t)
	said := func(ago time.Duration) string {
		return fmt.Sprintf(`{"sub":"u1","auth_time":%d}`, a.s.Clock.Now().Add(-ago).Unix())
	}
	t.Run("it is in the token", func(t *testing.T) {
		agent := a.s.Agent(t, a.s.Client())
		b := a.s.Browser(t)
		request, _ := a.came(b.Authorize(agent.Authorization()))
		page := fromElsewhere(b, a.continues(request, said(5*time.Hour)))
		u, err := url.Parse(page.Allow().Location)
		if err != nil {
			t.Fatal(err)
		}
		var claims struct {
			AuthTime int64 `json:"auth_time"`
		}
		decodeClaims(t, agent.Exchange(u.Query().Get("code")).Tokens().Access, &claims)
		if want := a.s.Clock.Now().Add(-5 * time.Hour).Unix(); claims.AuthTime != want {
			t.Errorf("auth_time is %d, want %d", claims.AuthTime, want)
		}
	})
	for _, tt := range []struct {
		name, parameter, value string
		maxAge                 string // as the application is told
		good, old              time.Duration
	}{
		{"max_age", "max_age", "3600", "3600", time.Hour - time.Minute, time.Hour + time.Minute},
		{"prompt=login", "prompt", "login", "0", 0, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := a.s.Browser(t)
			authorization := a.s.Agent(t, a.s.Client()).Authorization()
			authorization.Set(tt.parameter, tt.value)
			page := b.Authorize(authorization)
			request, _ := a.came(page)
			if u, _ := url.Parse(page.Location); u.Query().Get("max_age") != tt.maxAge {
				t.Errorf("the application gets max_age %q, want %q", u.Query().Get("max_age"), tt.maxAge)
			}
			for body, want := range map[string]string{
				said(tt.old): "login_required", `{"sub":"u1"}`: "invalid_request"} {
				if status, members := a.answer(a.client, request, body); status != 400 || members["error"] != want ||
					!strings.Contains(members["error_description"], "max_age") {
					t.Errorf("%s is answered with %d %v, want 400 and %s", body, status, members, want)
				}
			}
			if page := fromElsewhere(b, a.continues(request, said(tt.good))); !page.IsConsent() {
				t.Errorf("not the consent page (status %d):\n%s", page.Status, page.Body)
			}
		})
	}
	t.Run("a page of ours that needs a recent sign-in", func(t *testing.T) {
		b := a.s.Browser(t)
		request, _ := a.begin(b, "/login?return=/account")
		fromElsewhere(b, a.continues(request, said(time.Hour)))
		page := b.Get("/login?return=/account/data")
		request, _ = a.came(page)
		if u, _ := url.Parse(page.Location); u.Query().Get("max_age") != "900" {
			t.Errorf("the application gets max_age %q, want 900", u.Query().Get("max_age"))
		}
		if status, members := a.answer(a.client, request, said(time.Hour)); members["error"] != "login_required" {
			t.Errorf("an old sign-in is answered with %d %v", status, members)
		}
		if at := fromElsewhere(b, a.continues(request, said(time.Minute))).URL; at != a.s.URL+"/account/data" {
			t.Errorf("the sign-in leads to %s", at)
		}
	})
	for name, at := range map[string]int64{"milliseconds": a.s.Clock.Now().UnixMilli(), "zero": 0,
		"the future": a.s.Clock.Now().Add(2 * time.Minute).Unix()} {
		t.Run(name, func(t *testing.T) {
			request, _ := a.begin(a.s.Browser(t), "/login")
			status, members := a.answer(a.client, request, fmt.Sprintf(`{"sub":"u1","auth_time":%d}`, at))
			if status != 400 || !strings.HasPrefix(members["error_description"], "auth_time") {
				t.Errorf("%d %v", status, members)
			}
		})
	}
}
