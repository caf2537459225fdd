package mail_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/logtest"
	"github.com/cardea-auth/cardea/internal/mail"
	"github.com/cardea-auth/cardea/internal/mail/mailtest"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// certificate is one that this test trusts, for localhost and the addresses of this machine.
var certificate tls.Certificate

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run makes the certificate before anything asks which ones are trusted.
func run(m *testing.M) int {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if ip := outside(); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	dir, err := os.MkdirTemp("", "mail")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	file := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		panic(err)
	}
	if err := os.Setenv("SSL_CERT_FILE", file); err != nil {
		panic(err)
	}
	return m.Run()
}

// outside returns an address of this machine that is not a loopback address, or nil.
func outside() net.IP {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP
		}
	}
	return nil
}

// mailer returns a Mailer with a configuration, and its log.
func mailer(t *testing.T, c mail.Config, allow func(string) (bool, time.Duration)) (*mail.Mailer, *logtest.Log) {
	t.Helper()
	log := new(logtest.Log)
	m, err := mail.New(mail.Options{Config: c, Site: "auth.example.com", Allow: allow,
		Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return m, log
}

func letter(to string) mail.Letter {
	return mail.Letter{To: to, Kind: "test", Subject: "Grüße & <more>", Lines: []string{"Hello <b>Ada</b>."},
		Link: "https://auth.example.com/login/email?a=b&c=d", Button: "Sign in", Code: "12345678",
		Notes: []string{"It works for 10 minutes."}}
}

func flush(t *testing.T, m *mail.Mailer) {
	t.Helper()
	if err := m.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLetter(t *testing.T) {
	at := mailtest.New(t)
	m, _ := mailer(t, mail.Config{SMTP: at.URL, From: "Example <auth@example.com>"}, nil)
	if err := m.Send(letter("ada@Bücher.example")); err != nil {
		t.Fatal(err)
	}
	got := at.Next(t)
	want := "Hello <b>Ada</b>.\n\nSign in:\nhttps://auth.example.com/login/email?a=b&c=d\n\nCode: 12345678\n\n" +
		"It works for 10 minutes.\n\n-- \nauth.example.com\n"
	if got.Text != want {
		t.Errorf("the text is\n%q, want\n%q", got.Text, want)
	}
	if got.To != "ada@xn--bcher-kva.example" || got.From != "auth@example.com" || got.Subject != "Grüße & <more>" {
		t.Errorf("from %s to %s: %s", got.From, got.To, got.Subject)
	}
	if got.Header.Get("Auto-Submitted") != "auto-generated" || got.Header.Get("Message-Id") == "" ||
		got.Header.Get("Date") == "" {
		t.Errorf("the header is %v", got.Header)
	}
	for _, part := range []string{"Hello &lt;b&gt;Ada&lt;/b&gt;.",
		`href="https://auth.example.com/login/email?a=b&amp;c=d"`,
		">12345678<", "Grüße &amp; &lt;more&gt;", "It works for 10 minutes."} {
		if !strings.Contains(got.HTML, part) {
			t.Errorf("the HTML has no %s:\n%s", part, got.HTML)
		}
	}
}

func TestTLS(t *testing.T) {
	with := mailtest.TLS(&tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	send := func(t *testing.T, url string) string {
		t.Helper()
		m, log := mailer(t, mail.Config{SMTP: url, From: "auth@example.com"}, nil)
		if err := m.Send(letter("ada@example.com")); err != nil {
			t.Fatal(err)
		}
		flush(t, m)
		return log.String()
	}
	t.Run("from the first byte", func(t *testing.T) {
		at := mailtest.NewImplicit(t, with, mailtest.Password("hush-hush"))
		if log := send(t, at.URL); log != "" {
			t.Fatal(log)
		}
		if !at.Next(t).TLS {
			t.Error("it came without TLS")
		}
	})
	t.Run("a password that is wrong stays out of the log", func(t *testing.T) {
		at := mailtest.NewImplicit(t, with, mailtest.Password("hush-hush"))
		log := send(t, strings.Replace(at.URL, "hush-hush", "canary-word", 1))
		if log == "" || strings.Contains(log, "canary-word") || len(at.All()) > 0 {
			t.Errorf("the log is %q", log)
		}
	})
	t.Run("on this machine it may come without", func(t *testing.T) {
		at := mailtest.New(t, mailtest.Password("hush-hush"))
		if log := send(t, at.URL); log != "" {
			t.Fatal(log)
		}
		if at.Next(t).TLS {
			t.Error("it came with TLS")
		}
	})
	ip := outside()
	if ip == nil {
		t.Log("this machine has only loopback addresses")
		return
	}
	t.Run("from elsewhere it comes with STARTTLS", func(t *testing.T) {
		at := mailtest.New(t, with, mailtest.On(ip.String()), mailtest.Password("hush-hush"))
		if log := send(t, at.URL); log != "" {
			t.Fatal(log)
		}
		if !at.Next(t).TLS {
			t.Error("it came without TLS")
		}
	})
	t.Run("and not at all without", func(t *testing.T) {
		at := mailtest.New(t, mailtest.On(ip.String()))
		if log := send(t, at.URL); !strings.Contains(log, "STARTTLS") || len(at.All()) > 0 {
			t.Errorf("the log is %q", log)
		}
	})
}

// A fake is what mails are delivered to that no server gets.
type fake struct {
	mu   sync.Mutex
	got  []string // to whom
	errs []error  // that come first
}

func (f *fake) deliver(_ context.Context, to, _, _, _ string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		err := f.errs[0]
		f.errs = f.errs[1:]
		return err
	}
	f.got = append(f.got, to)
	return nil
}

func TestTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{errs: []error{errors.New("the server is away"), errors.New("greylisted")}}
		m, log := mailer(t, mail.Config{Deliver: f.deliver}, nil)
		if err := m.Send(letter("ada@example.com")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		if len(f.got) != 1 || strings.Count(log.String(), "could not be sent") != 2 {
			t.Errorf("delivered %v; the log is %s", f.got, log)
		}
	})
}

func TestGivenUp(t *testing.T) {
	t.Run("by the server", func(t *testing.T) {
		at := mailtest.New(t)
		at.Refuse(550)
		m, log := mailer(t, mail.Config{SMTP: at.URL, From: "auth@example.com"}, nil)
		if err := m.Send(letter("ada@example.com")); err != nil {
			t.Fatal(err)
		}
		flush(t, m)
		if !strings.Contains(log.String(), "again=false") || strings.Contains(log.String(), "12345678") {
			t.Errorf("the log is %s", log)
		}
	})
	t.Run("at the end", func(t *testing.T) {
		f := &fake{errs: []error{errors.New("away")}}
		m, log := mailer(t, mail.Config{Deliver: f.deliver}, nil)
		if err := m.Send(letter("ada@example.com")); err != nil {
			t.Fatal(err)
		}
		flush(t, m)
		m.Close(t.Context())
		if err := m.Send(letter("ada@example.com")); !errors.Is(err, mail.ErrFull) {
			t.Errorf("after the end: %v", err)
		}
		if !strings.Contains(log.String(), "number=1") {
			t.Errorf("the log is %s", log)
		}
	})
}

func TestBombing(t *testing.T) {
	f, now := new(fake), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	limiter := limit.New(limit.Rate{Every: 12 * time.Minute, Burst: 5}, 1000, func() time.Time { return now })
	m, _ := mailer(t, mail.Config{Deliver: f.deliver}, limiter.Allow)
	send := func(l mail.Letter, edit func(*mail.Letter)) bool {
		edit(&l)
		return m.Send(l) == nil
	}
	plain := func(*mail.Letter) {}
	for _, to := range []string{
		"ada@example.com", "ADA@example.com", " ada@Example.com", "ａｄａ@example.com", "ada@example.com"} {
		if !send(letter(to), plain) {
			t.Errorf("LG-06 a mail to %s was refused", to)
		}
	}
	for name, c := range map[string]struct {
		edit func(*mail.Letter)
		want bool
	}{
		"LG-06 the sixth":                    {plain, false},
		"of another kind":                    {func(l *mail.Letter) { l.Kind = "notice" }, true},
		"LG-10 from a device that was used":  {func(l *mail.Letter) { l.Device = "d" }, true},
		"to somebody else":                   {func(l *mail.Letter) { l.To = "eve@example.com" }, true},
		"LG-01 to nobody, as to anybody":     {func(l *mail.Letter) { l.Nobody, l.To = true, "no@example.com" }, true},
		"LG-01 to nobody, the sixth as well": {func(l *mail.Letter) { l.Nobody = true }, false},
	} {
		if got := send(letter("ada@example.com"), c.edit); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	flush(t, m)
	if len(f.got) != 8 {
		t.Errorf("%d mails were delivered, want 8: %v", len(f.got), f.got)
	}
	now = now.Add(time.Hour)
	if !send(letter("ada@example.com"), plain) {
		t.Error("refused after an hour")
	}
}

func TestQueueIsBounded(t *testing.T) {
	hold := make(chan struct{})
	m, _ := mailer(t, mail.Config{Deliver: func(ctx context.Context, _, _, _, _ string) error {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil
	}}, nil)
	taken := 0
	for i := range 2000 {
		if m.Send(letter("a"+strconv.Itoa(i)+"@example.com")) == nil {
			taken++
		}
	}
	if taken < 1000 || taken > 1004 {
		t.Errorf("%d letters were taken, want 1000 and those being delivered", taken)
	}
	close(hold)
	flush(t, m)
}

func TestLater(t *testing.T) {
	f := new(fake)
	m, log := mailer(t, mail.Config{Deliver: f.deliver}, nil)
	var mu sync.Mutex
	done := map[string]int{}
	later := func(what string, l *mail.Letter, err error) {
		m.Later("receipt", func(context.Context) (*mail.Letter, error) { return l, err }, func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			done[what]++
			return nil
		})
	}
	l := letter("ada@example.com")
	later("sent", &l, nil)
	later("nobody", nil, nil)
	flush(t, m)
	if len(f.got) != 1 || log.String() != "" {
		t.Errorf("delivered %v; the log is %s", f.got, log)
	}
	later("refused", nil, oauth.Refuse(oauth.AccessDenied, "no"))
	later("a fault", nil, errors.New("the database is away"))
	flush(t, m)
	mu.Lock()
	defer mu.Unlock()
	if want := map[string]int{"sent": 1, "nobody": 1, "refused": 1}; !maps.Equal(done, want) {
		t.Errorf("dealt with were %v, want %v", done, want)
	}
}

func TestCheck(t *testing.T) {
	const from = "auth@example.com"
	for _, c := range []struct{ name, smtp, from, want string }{
		{"none", "", "", ""},
		{"good", "smtps://u:p@mail.example.com", "Example <auth@example.com>", ""},
		{"with a port", "smtp://mail.example.com:25", from, ""},
		{"no sender", "smtps://mail.example.com", "", "mail.from is missing"},
		{"no server", "", from, "mail.smtp is not"},
		{"sender", "smtps://mail.example.com", "nobody", `mail.from: "nobody" is not an e-mail address`},
		{"scheme", "https://mail.example.com", from, "it must begin with smtps:// or smtp://"},
		{"no URL", "smtps://u:secret%@mail", from, "it is not a URL"},
		{"host", "smtps://", from, "the host is missing"},
		{"path", "smtps://mail.example.com/inbox", from, "nothing may follow"},
		{"user only", "smtps://u@mail.example.com", from, "only one of user name and password"},
		{"port", "smtps://mail.example.com:0", from, "the port must be"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := mail.Config{SMTP: c.smtp, From: c.from}.Check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

func TestProbe(t *testing.T) {
	at := mailtest.New(t, mailtest.Password("hush-hush"))
	if err := (mail.Config{SMTP: at.URL, From: "auth@example.com"}).Probe(t.Context()); err != nil {
		t.Error(err)
	}
	err := mail.Config{SMTP: strings.Replace(at.URL, "hush-hush", "canary-word", 1),
		From: "a@example.com"}.Probe(t.Context())
	if err == nil || strings.Contains(err.Error(), "canary-word") ||
		!strings.HasSuffix(err.Error(), "; correct the user name and the password, "+
			"with %-escapes for special characters") {
		t.Errorf("with a wrong password: %v", err)
	}
	open := mailtest.New(t)
	address := strings.TrimPrefix(open.URL, "smtp://")
	for url, want := range map[string]string{
		"smtp://127.0.0.1:1": "; correct the host and the port, or let this machine connect there",
		"smtps://" + address: "; write smtp:// in place of smtps:// if the server " +
			"switches to TLS by STARTTLS",
		"smtp://ada:secret@" + address: "; name the port at which the server lets people sign in, " +
			"or leave USER:PASSWORD@ out",
	} {
		err := mail.Config{SMTP: url, From: "a@example.com"}.Probe(t.Context())
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}
