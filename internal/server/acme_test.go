package server_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/keys"
	"github.com/cardea-auth/cardea/internal/logtest"
	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/server"
	"github.com/cardea-auth/cardea/internal/server/servertest"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// ownHTTPS is a server that obtains its certificates by itself.
type ownHTTPS struct {
	authority   *servertest.Authority
	https, http string // addresses
	config      config.Config
	run         *server.Server
	stop        func() // ends it
	db          *store.DB
	master      keys.Master
	log         *logtest.Log
}

// leads says which ports of the authority lead to the server: the one for HTTP, for HTTPS, or one for HTTP at which
// something else sends requests on to the server's.
type leads struct{ http, https, redirected bool }

// startHTTPS starts a server for auth.example.com. The authority proves names at its ports, unless they are not to lead
// to it.
func startHTTPS(t *testing.T, lead leads, edit func(*config.Config)) *ownHTTPS {
	t.Helper()
	httpPort, httpsPort := porttest.Port(t), porttest.Port(t)
	at := func(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
	s := &ownHTTPS{https: at(httpsPort), http: at(httpPort), log: new(logtest.Log)}
	if !lead.http {
		httpPort = porttest.Port(t)
	}
	if lead.redirected {
		front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, _ := net.SplitHostPort(r.Host)
			_, port, _ := net.SplitHostPort(s.http)
			http.Redirect(w, r, "http://"+net.JoinHostPort(host, port)+r.URL.Path, http.StatusMovedPermanently)
		}))
		t.Cleanup(front.Close)
		httpPort = front.Listener.Addr().(*net.TCPAddr).Port
	}
	if !lead.https {
		httpsPort = porttest.Port(t)
	}
	s.authority = servertest.NewAuthority(t, httpPort, httpsPort)
	loaded, err := config.Load(config.Sources{Flags: map[string]string{"issuer": "https://auth.example.com",
		"data_dir": t.TempDir(), "listen": s.https, "tls.http_listen": s.http,
		"tls.acme.domains": "auth.example.com,www.example.com", "tls.acme.email": "ada@example.com",
		"tls.acme.directory": s.authority.Directory, "tls.acme.ca_file": s.authority.CAFile}})
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		edit(&loaded.Config)
	}
	s.config = loaded.Config
	s.db, _ = storetest.Open(t, storetest.SQLite)
	s.master, _ = keys.NewMaster()
	s.serve(t)
	return s
}

// serve runs the server until stop is called or the test ends.
func (s *ownHTTPS) serve(t *testing.T) {
	t.Helper()
	run, err := server.New(t.Context(), s.config, s.db, s.master, slog.New(slog.NewTextHandler(s.log,
		&slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	s.run = run
	listener, err := run.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run.Serve(ctx, listener) }()
	s.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Log(s.log.String())
		}
	})
}

// shake connects for a name, and returns the certificate that a client accepts.
func (s *ownHTTPS) shake(name string) (*x509.Certificate, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.authority.Root)
	conn, err := tls.Dial("tcp", s.https, &tls.Config{RootCAs: roots, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func (s *ownHTTPS) obtained(t *testing.T, name string) *x509.Certificate {
	t.Helper()
	var leaf *x509.Certificate
	eventually(t, func() bool {
		var err error
		leaf, err = s.shake(name)
		return err == nil
	})
	return leaf
}

// The server proves its names in either way, and obtains no certificate for another.
func TestCertificateAuthority(t *testing.T) {
	for way, lead := range map[string]leads{
		"HTTP-01": {http: true}, "HTTP-01 behind a redirect": {redirected: true}, "TLS-ALPN-01": {https: true},
		"both": {http: true, https: true},
	} {
		t.Run(way, func(t *testing.T) {
			s := startHTTPS(t, lead, nil)
			for _, name := range []string{"auth.example.com", "www.example.com"} {
				s.obtained(t, name)
			}
			orders := s.authority.Orders.Load()

			for _, name := range []string{"evil.example.com", "example.com", "a.auth.example.com", "*.example.com"} {
				if leaf, err := s.shake(name); err == nil {
					t.Errorf("%s: a certificate for %s", name, leaf.DNSNames)
				}
				conn, err := tls.Dial("tcp", s.https, &tls.Config{InsecureSkipVerify: true, ServerName: name,
					NextProtos: []string{"acme-tls/1"}})
				if err == nil {
					conn.Close()
					t.Errorf("%s: an answer to a challenge", name)
				}
			}
			for _, name := range []string{"AUTH.example.com", "auth.example.com."} {
				if _, err := s.shake(name); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			old := &tls.Config{InsecureSkipVerify: true, ServerName: "auth.example.com", MaxVersion: tls.VersionTLS11}
			if conn, err := tls.Dial("tcp", s.https, old); err == nil {
				conn.Close()
				t.Error("TLS 1.1 is spoken")
			}
			none, err := tls.Dial("tcp", s.https, &tls.Config{InsecureSkipVerify: true}) // by address
			if err != nil {
				t.Errorf("without a name: %v", err)
			} else {
				none.Close()
			}
			if now := s.authority.Orders.Load(); now != orders {
				t.Errorf("strangers have caused %d orders", now-orders)
			}
			if at := s.run.State(t.Context()).CertificateExpires; !at.Equal(s.obtained(t, "auth.example.com").NotAfter) &&
				!at.Equal(s.obtained(t, "www.example.com").NotAfter) {
				t.Errorf("the server says that the first expires at %s", at)
			}
			if kept := storetest.AtRest(t, s.db); bytes.Contains(kept, []byte("PRIVATE KEY")) ||
				!bytes.Contains(kept, []byte("auth.example.com.key")) {
				t.Error("private keys are kept as they are, or not at all")
			}
			if log := s.log.String(); strings.Contains(log, "PRIVATE KEY") {
				t.Error("a private key is in the log")
			}
		})
	}
}

// A certificate that expires soon is renewed, and serves until then.
func TestRenewal(t *testing.T) {
	const host = "auth.example.com"
	s := startHTTPS(t, leads{https: true}, func(c *config.Config) {
		c.TLS.ACME.Domains = []string{host}
	})
	first := s.obtained(t, host)
	s.stop()
	s.age(t, host)
	s.authority.Closed.Store(true)
	s.serve(t)
	eventually(t, func() bool {
		conn, err := tls.Dial("tcp", s.https, &tls.Config{InsecureSkipVerify: true, ServerName: host})
		if err != nil {
			return false
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].NotAfter.Before(time.Now().AddDate(0, 0, 2))
	})
	s.stop()
	// The library renews a certificate once at a time in one process, where there are two servers here.
	eventually(t, func() bool { return strings.Contains(s.log.String(), "certificates: job failed") })
	s.authority.Closed.Store(false)
	s.serve(t)
	renewed := s.obtained(t, host)
	if renewed.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Errorf("the certificate is still the first, until %s", renewed.NotAfter)
	}
}

// age puts a certificate in the place of the one in the database that has the same key and expires tomorrow.
func (s *ownHTTPS) age(t *testing.T, host string) {
	t.Helper()
	named, text := map[string]*store.ACMEFile{}, map[string][]byte{} // by the end of the name
	place := func(f *store.ACMEFile) string { return "acme_files " + f.Name + " content" }
	if err := s.db.View(t.Context(), func(tx *store.Tx) error {
		files, err := tx.ACMEFiles()
		if err != nil {
			return err
		}
		for _, listed := range files {
			f, err := tx.ACMEFile(listed.Name)
			if err != nil {
				return err
			}
			end := f.Name[strings.LastIndex(f.Name, "/")+1:]
			if text[end], err = s.master.Open(place(f), f.Content); err != nil {
				return err
			}
			named[end] = f
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(text[host+".crt"], text[host+".key"])
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: pair.Leaf.SerialNumber, DNSNames: []string{host},
		AuthorityKeyId: pair.Leaf.AuthorityKeyId, // by both, the authority knows which certificate is renewed
		NotBefore:      time.Now().AddDate(0, 0, -89), NotAfter: time.Now().AddDate(0, 0, 1)}
	signer := pair.PrivateKey.(crypto.Signer)
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	aged := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	f := named[host+".crt"]
	if f.Content, err = s.master.Seal(place(f), aged); err != nil {
		t.Fatal(err)
	}
	f.Size = int64(len(aged))
	if err := s.db.Update(t.Context(), func(tx *store.Tx) error { return tx.PutACMEFile(f) }); err != nil {
		t.Fatal(err)
	}
}

// HTTP beside HTTPS sends people on to the issuer, whatever the request says, and takes nothing.
func TestHTTPBesideHTTPS(t *testing.T) {
	s := startHTTPS(t, leads{http: true}, nil)
	s.obtained(t, "auth.example.com")
	ask := func(method, host, target string) *http.Response {
		t.Helper()
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.http)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn,
				error) {
				return new(net.Dialer).DialContext(t.Context(), "tcp", s.http)
			}}}
		u, err := url.Parse("http://" + host + target)
		if err != nil {
			t.Fatal(err)
		}
		r := (&http.Request{Method: method, URL: u, Host: host, Header: http.Header{}}).WithContext(t.Context())
		if method == http.MethodPost {
			r.Body = io.NopCloser(strings.NewReader("client_secret=hush"))
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	for _, c := range []struct{ method, host, target, want string }{
		{"GET", "auth.example.com", "/", "https://auth.example.com/"},
		{"HEAD", "auth.example.com", "/account?a=b%26c", "https://auth.example.com/account?a=b%26c"},
		{"GET", "evil.example.com", "/x", "https://auth.example.com/x"},
		{"GET", "auth.example.com:1", "//evil.example.com/%2e%2e", "https://auth.example.com//evil.example.com/%2e%2e"},
		{"GET", "auth.example.com", "/.well-known/acme-challenge/none",
			"https://auth.example.com/.well-known/acme-challenge/none"},
		{"GET", "evil.example.com", "/.well-known/acme-challenge/x",
			"https://auth.example.com/.well-known/acme-challenge/x"},
		{"POST", "auth.example.com", "/oauth2/token", ""},
	} {
		resp := ask(c.method, c.host, c.target)
		status := http.StatusMovedPermanently
		if c.want == "" {
			status = http.StatusBadRequest
		}
		if got := resp.Header.Get("Location"); got != c.want || resp.StatusCode != status {
			t.Errorf("%s %s%s: %d to %q, want %q", c.method, c.host, c.target, resp.StatusCode, got, c.want)
		}
		if resp.Header.Get("Strict-Transport-Security") != "" || resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s%s: the header is %v", c.method, c.host, c.target, resp.Header)
		}
	}
}

// The log says what keeps a certificate away and what to do; the server lives on.
func TestNoCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*config.Config)
		want string
	}{
		"closed ports": {nil, "the certificate authority does not reach this server; see that ports 80 and 443 of " +
			"auth.example.com lead here"},
		"no DNS": {func(c *config.Config) {
			c.Issuer, c.TLS.ACME.Domains = "https://auth.example.net", []string{"auth.example.net"}
		}, "DNS has no address for auth.example.net; add an A or AAAA record"},
		"no authority": {func(c *config.Config) { c.TLS.ACME.Directory = "https://127.0.0.1:1/dir" },
			"this server does not reach the certificate authority; see that it may connect to tls.acme.directory"},
		"a foreign authority": {func(c *config.Config) { c.TLS.ACME.CAFile = "" },
			"the certificate authority cannot prove who it is; set tls.acme.ca_file"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startHTTPS(t, leads{}, c.edit)
			eventually(t, func() bool { return strings.Contains(s.log.String(), c.want) })
			resp, err := http.Post("http://"+s.http+"/", "text/plain", nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if leaf, err := s.shake("auth.example.com"); err == nil {
				t.Errorf("a certificate until %s", leaf.NotAfter.Format(time.RFC3339))
			}
		})
	}
}
