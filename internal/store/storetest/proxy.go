package storetest

import (
	"context"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"

	"github.com/cardea-auth/cardea/internal/porttest"
)

// Proxy stands between a DB and PostgreSQL. Its connections can be cut, or stopped so that nothing answers.
type Proxy struct {
	DSN string // of the database through the proxy

	gate     sync.RWMutex
	upstream string
	address  string

	mu       sync.Mutex
	listener net.Listener
	conns    []net.Conn
}

// NewProxy starts a proxy in front of the PostgreSQL database at dsn, until the test ends.
func NewProxy(t testing.TB, dsn string) *Proxy {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{upstream: u.Host, address: porttest.Address(t)}
	p.Mend()
	u.Host = p.address
	p.DSN = u.String()
	t.Cleanup(p.Cut)
	return p
}

// Stop keeps everything that is sent, so that the database seems to hang, until Resume is called.
func (p *Proxy) Stop() { p.gate.Lock() }

// Resume ends what Stop began.
func (p *Proxy) Resume() { p.gate.Unlock() }

// Mend lets connections be made, at the beginning and after Cut.
func (p *Proxy) Mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", p.address)
	if err != nil {
		panic(err)
	}
	p.listener = listener
	go func() {
		for {
			down, err := listener.Accept()
			if err != nil {
				return
			}
			up, err := new(net.Dialer).Dial("tcp", p.upstream)
			if err != nil {
				down.Close()
				continue
			}
			p.mu.Lock()
			if p.listener != listener { // it was cut meanwhile
				p.mu.Unlock()
				down.Close()
				up.Close()
				continue
			}
			p.conns = append(p.conns, down, up)
			p.mu.Unlock()
			go func() { _, _ = io.Copy(gated{up, &p.gate}, down); up.Close() }()
			go func() { _, _ = io.Copy(gated{down, &p.gate}, up); down.Close() }()
		}
	}()
}

// Cut ends all connections, and lets nobody connect.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// gated writes while its gate is open.
type gated struct {
	io.Writer
	gate *sync.RWMutex
}

func (g gated) Write(p []byte) (int, error) {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Writer.Write(p)
}
