// Package mailtest runs a mail server inside a test and shows what it was sent.
package mailtest

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Server is a mail server that keeps what it is sent.
type Server struct {
	URL string // smtp:// or smtps://

	mu       sync.Mutex
	mails    []Mail
	arrived  chan struct{} // has something when a mail arrived since Next looked
	refusals []*smtp.SMTPError
	password string
}

// Mail is a mail that arrived.
type Mail struct {
	From, To string // of the envelope
	Header   mail.Header
	Subject  string
	Text     string
	HTML     string
	TLS      bool // whether it came over TLS
}

// Link returns the first line of the text that is a URL, or "".
func (m Mail) Link() string { return link.FindString(m.Text) }

// Code returns the code in the text, or "".
func (m Mail) Code() string {
	if found := code.FindStringSubmatch(m.Text); found != nil {
		return found[1]
	}
	return ""
}

var (
	link = regexp.MustCompile(`(?m)^https?://\S+$`)
	code = regexp.MustCompile(`Code: (\S+)`)
)

// Option changes a Server before it starts.
type Option func(*Server, *smtp.Server, *string)

// On makes the server listen on an address other than 127.0.0.1.
func On(host string) Option { return func(_ *Server, _ *smtp.Server, h *string) { *h = host } }

// TLS makes the server offer STARTTLS, with a certificate.
func TLS(c *tls.Config) Option { return func(_ *Server, s *smtp.Server, _ *string) { s.TLSConfig = c } }

// Password makes the server demand it, of the user "cardea".
func Password(p string) Option { return func(s *Server, _ *smtp.Server, _ *string) { s.password = p } }

// New runs a mail server until t ends.
func New(t testing.TB, options ...Option) *Server { t.Helper(); return run(t, false, options) }

// NewImplicit is New with TLS from the first byte. The options must have TLS.
func NewImplicit(t testing.TB, options ...Option) *Server { t.Helper(); return run(t, true, options) }

func run(t testing.TB, implicit bool, options []Option) *Server {
	t.Helper()
	s := &Server{arrived: make(chan struct{}, 1)}
	host := "127.0.0.1"
	serve := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		_, secure := c.TLSConnectionState()
		return &session{s: s, mail: Mail{TLS: secure || implicit}, in: s.password == ""}, nil
	}))
	serve.Domain, serve.AllowInsecureAuth, serve.EnableSMTPUTF8 = "localhost", true, true
	serve.ReadTimeout, serve.WriteTimeout, serve.ErrorLog = 10*time.Second, 10*time.Second, silent{}
	for _, option := range options {
		option(s, serve, &host)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("mailtest: %v", err)
	}
	scheme := "smtp://"
	if implicit {
		scheme = "smtps://"
		listener = tls.NewListener(listener, serve.TLSConfig)
		serve.TLSConfig = nil
	}
	if s.password != "" {
		scheme += "cardea:" + s.password + "@"
	}
	s.URL = scheme + listener.Addr().String()
	go func() { _ = serve.Serve(listener) }()
	t.Cleanup(func() { _ = serve.Close() })
	return s
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// Refuse makes the server answer the next mail with a code, such as 451 or 550.
func (s *Server) Refuse(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusals = append(s.refusals, &smtp.SMTPError{Code: code, Message: "not now"})
}

// Next waits for the next mail and returns it. The test fails if none arrives.
func (s *Server) Next(t testing.TB) Mail {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		s.mu.Lock()
		if len(s.mails) > 0 {
			m := s.mails[0]
			s.mails = s.mails[1:]
			s.mu.Unlock()
			return m
		}
		s.mu.Unlock()
		select {
		case <-s.arrived:
		case <-ctx.Done():
			t.Fatal("mailtest: no mail arrived")
		}
	}
}

// NextTo is Next for a mail to an address; it drops the others.
func (s *Server) NextTo(t testing.TB, to string) Mail {
	t.Helper()
	for {
		if m := s.Next(t); m.To == to {
			return m
		}
	}
}

// All returns the mails that arrived and that Next has not returned, and forgets them.
func (s *Server) All() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	mails := s.mails
	s.mails = nil
	return mails
}

// session is a connection.
type session struct {
	s    *Server
	mail Mail
	in   bool
}

func (x *session) AuthMechanisms() []string {
	if x.s.password == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (x *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != "cardea" || password != x.s.password {
			return smtp.ErrAuthFailed
		}
		x.in = true
		return nil
	}), nil
}

func (x *session) Mail(from string, _ *smtp.MailOptions) error {
	if !x.in {
		return smtp.ErrAuthRequired
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	if len(x.s.refusals) > 0 {
		err := x.s.refusals[0]
		x.s.refusals = x.s.refusals[1:]
		return err
	}
	x.mail = Mail{From: from, TLS: x.mail.TLS}
	return nil
}

func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	x.mail.To = to
	return nil
}

func (x *session) Data(r io.Reader) error {
	m := x.mail
	if err := m.read(r); err != nil {
		return err
	}
	x.s.mu.Lock()
	x.s.mails = append(x.s.mails, m)
	x.s.mu.Unlock()
	select {
	case x.s.arrived <- struct{}{}:
	default:
	}
	return nil
}

func (*session) Reset()        {}
func (*session) Logout() error { return nil }

// read reads the header and both parts.
func (m *Mail) read(r io.Reader) error {
	msg, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	m.Header = msg.Header
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); err != nil {
		return err
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		return err
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		body, err := io.ReadAll(quotedprintable.NewReader(part))
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(body), "\r\n", "\n")
		if strings.HasPrefix(part.Header.Get("Content-Type"), "text/html") {
			m.HTML = text
		} else {
			m.Text = text
		}
	}
}
