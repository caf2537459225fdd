package server_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/admin"
	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// nodes runs test on both databases, each time with two servers on one database that send mail to letters.
func nodes(t *testing.T,
	test func(t *testing.T, connect func() *store.DB, clock *storetest.Clock, letters *mailtest.Server,
		one, two *servertest.Server)) {
	for _, engine := range []storetest.Engine{storetest.SQLite, storetest.Postgres} {
		t.Run(string(engine), func(t *testing.T) {
			letters, dsn, clock := mailtest.New(t), storetest.New(t, engine), storetest.NewClock()
			connect := func() *store.DB { return storetest.Connect(t, dsn, clock) }
			one := servertest.New(t, connect(), clock, servertest.Mailed(letters))
			two := servertest.New(t, connect(), clock, servertest.Mailed(letters),
				func(c *config.Config) { c.Issuer = one.URL })
			test(t, connect, clock, letters, one, two)
		})
	}
}

// due has both servers send what is due, at once, and returns what was sent.
func due(t *testing.T, letters *mailtest.Server, both ...*servertest.Server) (sent []mailtest.Mail) {
	t.Helper()
	var all sync.WaitGroup
	for _, s := range both {
		all.Go(func() {
			if err := s.Server.TellDue(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, s := range both {
		sent = append(sent, s.Mails(t, letters)...)
	}
	return sent
}

// A person is told, once, what a command on the machine of a server did with their account.
func TestNoticesOfCommands(t *testing.T) {
	nodes(t, func(t *testing.T, connect func() *store.DB, _ *storetest.Clock, letters *mailtest.Server,
		one, two *servertest.Server) {
		ada, bob := one.User("ada@example.com"), one.User("bob@example.com")
		beside := connect()
		server.LeaveNotices(config.Config{Mail: mail.Config{SMTP: letters.URL, From: "auth@example.com"}}, beside)
		o := &admin.Operations{DB: beside, Issuer: one.URL}
		for _, who := range []*servertest.Person{ada, bob} {
			_, err := o.ResetPassword(t.Context(), root, who.ID, "another good password", admin.EndGrants)
			if err != nil {
				t.Fatal(err)
			}
		}
		name := "Ada"
		if _, err := o.UpdateUser(t.Context(), root, ada.ID, admin.UserTerms{Name: &name}); err != nil {
			t.Fatal(err)
		}
		if _, err := o.DeleteUser(t.Context(), root, bob.ID); err != nil {
			t.Fatal(err)
		}
		sent := due(t, letters, one, two)
		if len(sent) != 1 || sent[0].To != ada.Email ||
			!strings.HasPrefix(sent[0].Subject, "Your password was reset") ||
			!strings.Contains(sent[0].Text, "by an administrator") || strings.Contains(sent[0].Text, root.Actor.Name) {
			t.Errorf("sent were %+v", sent)
		}
		if sent := due(t, letters, one, two); len(sent) != 0 {
			t.Errorf("sent again: %+v", sent)
		}
		silent := connect() // of a command without mail in its configuration
		server.LeaveNotices(config.Config{}, silent)
		if _, err := (&admin.Operations{DB: silent}).
			ResetPassword(t.Context(), root, ada.ID, "yet another password", admin.EndGrants); err != nil {
			t.Fatal(err)
		}
		if sent := due(t, letters, one, two); len(sent) != 0 {
			t.Errorf("sent without mail: %+v", sent)
		}
	})
}

// What a server could not send before it ended, another one sends, once, and not for ever.
func TestNoticesSurviveAServer(t *testing.T) {
	nodes(t, func(t *testing.T, connect func() *store.DB, clock *storetest.Clock, letters *mailtest.Server,
		one, two *servertest.Server) {
		lost := servertest.New(t, connect(), clock, func(c *config.Config) {
			c.Issuer, c.Mail = one.URL, mail.Config{From: "auth@example.com",
				Deliver: func(context.Context, string, string, string,
					string) error {
					return errors.New("it is away")
				}}
		})
		ada := one.User("ada@example.com")
		lost.Browser(t).Get("/login").SignIn(ada)
		if err := lost.Server.Mailer().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if sent := due(t, letters, one, two); len(sent) != 0 {
			t.Fatalf("while the first server may still send it: %+v", sent)
		}
		clock.Advance(10 * time.Minute)
		sent := due(t, letters, one, two)
		if len(sent) != 1 || sent[0].To != ada.Email || !strings.HasPrefix(sent[0].Subject, "A new device signed in") {
			t.Errorf("sent were %+v", sent)
		}
		lost.Browser(t).Get("/login").SignIn(ada)
		if err := lost.Server.Mailer().Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		clock.Advance(24 * time.Hour)
		if sent := due(t, letters, one, two); len(sent) != 0 {
			t.Errorf("sent a day later: %+v", sent)
		}
		if swept, err := one.DB.Sweep(t.Context()); err != nil || swept.Notices != 1 {
			t.Errorf("%+v %v", swept, err)
		}
	})
}
