package servertest

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"
)

// Authority is a certificate authority on this machine (ACME, RFC 8555). All names below example.com have the address
// 127.0.0.1, for it alone.
type Authority struct {
	Directory string       // its URL
	CAFile    string       // its own certificate
	Root      []byte       // the root of the certificates that it issues, in PEM form
	Orders    atomic.Int64 // certificates that were asked for
	Closed    atomic.Bool  // it answers nothing
}

// NewAuthority runs one until t ends. It proves names at these ports instead of 80 and 443.
func NewAuthority(t testing.TB, httpPort, httpsPort int) *Authority {
	t.Helper()
	for name, value := range map[string]string{"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20"} {
		old, was := os.LookupEnv(name)
		_ = os.Setenv(name, value) // testing.TB.Setenv does not let the test be parallel
		t.Cleanup(func() {
			if _ = os.Unsetenv(name); was {
				_ = os.Setenv(name, old)
			}
		})
	}
	quiet := log.New(io.Discard, "", 0)
	memory := db.NewMemoryStore()
	signer := ca.New(quiet, memory, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {Description: "default"}})
	front := wfe.New(quiet, memory, va.New(quiet, httpPort, httpsPort, false, resolver(t), memory), signer,
		[]string{"pebble.example.com"}, false, false, 1, 1)
	a := &Authority{Root: signer.GetRootCert(0).PEM()}
	handler := front.Handler()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.Closed.Load() {
			panic(http.ErrAbortHandler)
		}
		if r.URL.Path == "/order-plz" {
			a.Orders.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	a.Directory, a.CAFile = server.URL+wfe.DirectoryPath, filepath.Join(t.TempDir(), "authority.pem")
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(a.CAFile, own, 0o600); err != nil {
		t.Fatalf("servertest: %v", err)
	}
	return a
}

// resolver runs a DNS server and returns its address.
func resolver(t testing.TB) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("servertest: %v", err)
	}
	server := &dns.Server{Listener: listener, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetReply(q)
		switch asked := q.Question[0]; {
		case !strings.HasSuffix(asked.Name, ".example.com."):
			answer.Rcode = dns.RcodeNameError
		case asked.Qtype == dns.TypeA:
			answer.Answer = []dns.RR{&dns.A{A: net.IPv4(127, 0, 0, 1), Hdr: dns.RR_Header{
				Name: asked.Name, Rrtype: dns.TypeA, Class: dns.ClassINET}}}
		}
		_ = w.WriteMsg(answer) // who asked asks again
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return listener.Addr().String()
}
