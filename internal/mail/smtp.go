package mail

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Config says through which server mail is sent, and from whom.
type Config struct {
	// SMTP is the URL of the mail server, "smtps://…" or "smtp://…"; it may contain a password. "": there is none.
	SMTP string
	// From is the sender, "auth@example.com" or "Example <auth@example.com>".
	From string
	// Deliver, if it is set, gets each mail instead of the server.
	Deliver func(ctx context.Context, to, subject, text, html string) error
}

// On reports whether mail can be sent.
func (c Config) On() bool { return c.SMTP != "" || c.Deliver != nil }

// Check returns an error that names the key unless both SMTP and From are good, or both are empty. It never quotes the
// URL, because that may contain a password.
func (c Config) Check() error {
	switch {
	case c.SMTP == "" && c.From == "":
		return nil
	case c.SMTP == "":
		return errors.New("mail.from is set and mail.smtp is not: set both, or neither")
	case c.From == "":
		return errors.New("mail.from is missing: write the address from which mail is sent, like auth@example.com")
	}
	if _, err := mail.ParseAddress(c.From); err != nil {
		return fmt.Errorf("mail.from: %.100q is not an e-mail address; write it like auth@example.com, or Example "+
			"<auth@example.com>", c.From)
	}
	_, err := parseServer(c.SMTP)
	return err
}

// server is a mail server.
type server struct {
	host           string
	port           int
	implicit       bool // TLS from the first byte (RFC 8314 §3.3)
	local          bool // on this machine
	user, password string
}

// parseServer reads the URL of a mail server.
func parseServer(text string) (s server, err error) {
	const form = "write it like smtps://USER:PASSWORD@mail.example.com"
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return s, errors.New("mail.smtp: it is not a URL; " + form + ", with %-escapes in the password")
	case u.Scheme != "smtp" && u.Scheme != "smtps":
		return s, errors.New("mail.smtp: it must begin with smtps:// or smtp://; " + form)
	case u.Hostname() == "":
		return s, errors.New("mail.smtp: the host is missing; " + form)
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "":
		return s, errors.New("mail.smtp: nothing may follow the host and the port; " + form +
			", with %-escapes in the password")
	}
	s = server{host: u.Hostname(), implicit: u.Scheme == "smtps", local: oauth.IsLoopback(u.Hostname()), port: 587}
	if s.implicit {
		s.port = 465
	}
	if u.Port() != "" {
		if s.port, err = strconv.Atoi(u.Port()); err != nil || s.port < 1 || s.port > 65535 {
			return s, errors.New("mail.smtp: the port must be a number from 1 to 65535")
		}
	}
	s.user = u.User.Username()
	s.password, _ = u.User.Password()
	if (s.user == "") != (s.password == "") {
		return s, errors.New("mail.smtp: it has only one of user name and password; " + form)
	}
	return s, nil
}

// errRejected says that a mail server does not take a mail, now or later.
var errRejected = errors.New("mail: the server rejected it")

// client returns a client for the server. Without TLS it talks only to this machine.
func (s server) client() (*gomail.Client, error) {
	options := []gomail.Option{gomail.WithPort(s.port), gomail.WithTimeout(timeout / 2),
		gomail.WithTLSConfig(&tls.Config{ServerName: s.host, MinVersion: tls.VersionTLS12})}
	switch {
	case s.implicit:
		options = append(options, gomail.WithSSL())
	case s.local:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if s.user != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(s.user),
			gomail.WithPassword(s.password))
		if s.local && !s.implicit { // which go-mail does not discover without TLS
			options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthPlainNoEnc))
		}
	}
	client, err := gomail.NewClient(s.host, options...)
	if err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	return client, nil
}

// send sends one mail. The error wraps errRejected if another try would be rejected too.
func (s server) send(ctx context.Context, from, to, subject, text, html string) error {
	msg := gomail.NewMsg()
	if err := msg.From(from); err != nil {
		return fmt.Errorf("%w: from: %w", errRejected, err)
	}
	if err := msg.To(to); err != nil {
		return fmt.Errorf("%w: to: %w", errRejected, err)
	}
	msg.Subject(subject)
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834 §5
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, html)
	client, err := s.client()
	if err != nil {
		return err
	}
	err = client.DialAndSendWithContext(ctx, msg)
	var refused *gomail.SendError
	if errors.As(err, &refused) && !refused.IsTemp() && refused.ErrorCode() >= 500 {
		return fmt.Errorf("%w: %w", errRejected, err)
	}
	if err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	return nil
}

// Probe connects to the server of c and signs in there, and sends nothing.
func (c Config) Probe(ctx context.Context) error {
	s, err := parseServer(c.SMTP)
	if err != nil {
		return err
	}
	client, err := s.client()
	if err != nil {
		return err
	}
	if err := client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("mail.smtp: %s:%d cannot be used: %w; %s", s.host, s.port, err, s.remedy(err))
	}
	return client.Close()
}

// remedy says what to do about an error of connecting and signing in.
func (s server) remedy(err error) string {
	var (
		dial        *net.OpError
		plain       tls.RecordHeaderError
		certificate *tls.CertificateVerificationError
		answer      *textproto.Error
	)
	switch {
	case errors.As(err, &dial) && dial.Op == "dial":
		return "correct the host and the port, or let this machine connect there"
	case errors.As(err, &plain):
		return "write smtp:// in place of smtps:// if the server switches to TLS by STARTTLS"
	case errors.As(err, &certificate):
		return "write the host by the name in the certificate, and let this machine trust who issued it"
	case errors.As(err, &answer):
		return "correct the user name and the password, with %-escapes for special characters"
	case strings.Contains(err.Error(), "AUTH"): // a sentence of go-mail, which has no value for it
		return "name the port at which the server lets people sign in, or leave USER:PASSWORD@ out"
	case strings.Contains(err.Error(), "STARTTLS"):
		return "write smtps:// and the port at which the server speaks TLS, such as 465"
	}
	return "the log of the mail server may say more"
}
