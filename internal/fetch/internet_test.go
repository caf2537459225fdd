package fetch_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/fetch"
)

// internet is a small internet in memory: a name server, and servers by address. In a synctest bubble, its clock is the
// bubble's.
type internet struct {
	t *testing.T

	mu      sync.Mutex
	names   map[string][][]netip.Addr // the answers for each name; the last one is repeated
	serve   map[string]func(net.Conn) // by address and port
	lookups int
	dialled []string
}

func newInternet(t *testing.T) *internet {
	return &internet{t: t, names: make(map[string][][]netip.Addr), serve: make(map[string]func(net.Conn))}
}

// client returns a Client that fetches from this internet and trusts the test authority.
func (i *internet) client(allowLoopback bool) *fetch.Client {
	return fetch.New(fetch.Options{
		AllowLoopback: allowLoopback, Now: time.Now, LookupIP: i.lookup, Dial: i.dial, RootCAs: authority.pool,
	})
}

// name makes the name server return addrs.
func (i *internet) name(host string, addrs ...string) {
	var answer []netip.Addr
	for _, addr := range addrs {
		answer = append(answer, netip.MustParseAddr(addr))
	}
	i.names[host] = append(i.names[host], answer)
}

// site is an https server on a public address, with a name and a certificate for it.
func (i *internet) site(host string, handler http.HandlerFunc) {
	i.name(host, "93.184.216.34")
	i.listen("93.184.216.34:443", handler,
		&tls.Config{Certificates: []tls.Certificate{authority.issue(leaf{host: host})}})
}

// listen serves HTTP at address; without TLS if config is nil.
func (i *internet) listen(address string, handler http.HandlerFunc, config *tls.Config) {
	conns := make(line)
	server := &http.Server{Handler: handler}
	go func() { _ = server.Serve(conns) }()
	i.t.Cleanup(func() { server.Close() })
	i.serve[address] = func(conn net.Conn) {
		if config != nil {
			conn = abrupt{tls.Server(conn, config), conn}
		}
		conns <- conn
	}
}

func (i *internet) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lookups++
	answers := i.names[host]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(answers) > 1 {
		i.names[host] = answers[1:]
	}
	return answers[0], ctx.Err()
}

func (i *internet) dial(ctx context.Context, network, address string) (net.Conn, error) {
	i.mu.Lock()
	i.dialled = append(i.dialled, address)
	serve := i.serve[address]
	i.mu.Unlock()
	if serve == nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	near, far := net.Pipe()
	go serve(far)
	return newEager(near), nil
}

// dials returns the addresses of all connections since the last call.
func (i *internet) dials() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	dialled := i.dialled
	i.dialled = nil
	return dialled
}

// eager is one end of a pipe whose writes do not wait for the other end to read, so that both can write at once, as
// with TCP.
type eager struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func newEager(conn net.Conn) *eager {
	e := &eager{Conn: conn, out: make(chan []byte, 16), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case p := <-e.out:
				_, _ = conn.Write(p)
			case <-e.closed:
				return
			}
		}
	}()
	return e
}

func (e *eager) Write(p []byte) (int, error) {
	select {
	case e.out <- bytes.Clone(p):
		return len(p), nil
	case <-e.closed:
		return 0, net.ErrClosed
	}
}

func (e *eager) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Conn.Close()
}

// abrupt is a TLS connection that is closed without a TLS alert, because the other end of a pipe may not be reading.
type abrupt struct {
	net.Conn
	pipe net.Conn
}

func (a abrupt) Close() error { return a.pipe.Close() }

// line is a listener that accepts the connections that are sent to it.
type line chan net.Conn

func (l line) Accept() (net.Conn, error) {
	conn, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (l line) Close() error   { close(l); return nil }
func (l line) Addr() net.Addr { return &net.TCPAddr{} }

// answer returns a handler that always sends the same response.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// swallow reads forever and never responds.
func swallow(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// authority is a certificate authority.
var authority = newCertificates()

type certificates struct {
	pool *x509.CertPool
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

type leaf struct {
	host       string
	notAfter   time.Time // zero: long after everything
	selfSigned bool
}

var (
	longAgo   = time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)
	farFuture = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

func newCertificates() *certificates {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: longAgo, NotAfter: farFuture,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	cert := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template,
		key.Public(), key))))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &certificates{pool: pool, cert: cert, key: key}
}

func (c *certificates) issue(l leaf) tls.Certificate {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: longAgo, NotAfter: farFuture,
		DNSNames: []string{l.host}, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if !l.notAfter.IsZero() {
		template.NotAfter = l.notAfter
	}
	parent, parentKey := c.cert, c.key
	if l.selfSigned {
		parent, parentKey = template, key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
