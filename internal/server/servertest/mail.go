package servertest

import (
	"testing"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
)

// Mailed is an edit of the configuration: mail is sent through at, and people may sign in with these methods besides
// password.
func Mailed(at *mailtest.Server, methods ...string) func(*config.Config) {
	return func(c *config.Config) {
		c.Mail = mail.Config{SMTP: at.URL, From: "Cardea <auth@example.com>"}
		c.Login.Methods = append(c.Login.Methods, methods...)
	}
}

// Mails waits until the server has sent what it has to send, and returns what at got and the test has not read.
func (s *Server) Mails(t testing.TB, at *mailtest.Server) []mailtest.Mail {
	t.Helper()
	if err := s.Server.Mailer().Flush(t.Context()); err != nil {
		t.Fatalf("servertest: %v", err)
	}
	mails := at.All()
	for _, m := range mails {
		s.KeepSecret(m)
	}
	return mails
}

// KeepSecret fails the test at its end if the log has the link or the code of a mail.
func (s *Server) KeepSecret(m mailtest.Mail) {
	s.secret("link", m.Link())
	s.secret("code", m.Code())
}
