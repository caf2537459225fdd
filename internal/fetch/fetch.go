// Package fetch fetches documents from URLs that strangers choose: Client ID Metadata Documents, key sets and logos.
// Such a URL may point into the server's own network, and the response may be slow, huge or false. Therefore everything
// that is not known to be harmless is refused, and everything has a limit.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// What a fetch may fail with, by identity. The first two come with details for the log:
// addresses, states of connections. What a stranger is told about a URL that
// CheckURL lets pass should be one sentence, for the details are a map of the
// network.
var (
	ErrNotAllowed  = errors.New("the URL may not be fetched")
	ErrUnavailable = errors.New("the URL could not be fetched")
	// ErrBusy is a refusal, because it does not depend on the document.
	ErrBusy = oauth.RefuseBusy(patience, "this server has too much to fetch at the moment")
)

const (
	patience = 5 * time.Second // for a whole fetch, waiting for its turn included

	maxHeader  = 16 << 10 // bytes of all headers of an answer, those of 1xx answers included
	maxPending = 1024     // fetches begun and not answered

	userAgent = "Cardea (+https://github.com/cardea-auth/cardea)"
)

// Options are what a Client is made of.
type Options struct {
	// AllowLoopback lets documents on loopback hosts (oauth.IsLoopback, as the URL
	// spells them) be fetched, with http and https.
	AllowLoopback bool
	// Now is the clock, for caching and for certificates. It must be set.
	Now func() time.Time
	// LookupIP resolves a domain name; nil asks the system.
	LookupIP func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to an IP address that was vetted, as net.Dialer.DialContext
	// does; nil is that.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RootCAs verify servers; nil are those of the system.
	RootCAs *x509.CertPool
}

// Client fetches. Make it with New; it is safe for concurrent use.
type Client struct {
	allowLoopback bool
	now           func() time.Time
	lookupIP      func(ctx context.Context, host string) ([]netip.Addr, error)
	dial          func(ctx context.Context, network, address string) (net.Conn, error)
	transport     *http.Transport
	pending       chan struct{} // holds one token for each fetch begun
	turns         *turns
}

// New returns a Client.
func New(o Options) *Client {
	c := &Client{
		allowLoopback: o.AllowLoopback,
		now:           o.Now,
		lookupIP:      o.LookupIP,
		dial:          o.Dial,
		pending:       make(chan struct{}, maxPending),
		turns:         newTurns(),
	}
	if c.lookupIP == nil {
		c.lookupIP = lookupIP
	}
	if c.dial == nil {
		c.dial = new(net.Dialer).DialContext
	}
	// Without Proxy, for the environment must not lead requests elsewhere.
	c.transport = &http.Transport{
		DialContext:            c.connect,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs, Time: o.Now},
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              new(http.Protocols),
	}
	c.transport.Protocols.SetHTTP1(true)
	return c
}

// Get fetches url once, as one document of kind. The error is ErrNotAllowed when
// the URL may not be fetched, by its text or because of an address of its host,
// ErrBusy when other fetches take too long, and ErrUnavailable for everything else,
// ctx ending among it.
//
// It takes 5 seconds at most. A failure of a URL that CheckURL would let pass
// takes exactly so long, unless its host is loopback, ctx ends or too many fetches
// are under way: how soon a fetch fails would tell a stranger whether a port is
// closed or filtered, and whether a name resolves.
func (c *Client) Get(ctx context.Context, url string, kind Kind) (*Document, error) {
	t, err := parse(url, c.allowLoopback)
	if err != nil {
		return nil, err
	}
	select {
	case c.pending <- struct{}{}:
		defer func() { <-c.pending }()
	default:
		return nil, ErrBusy
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := c.get(ctx, t, kind)
	if err != nil && !t.loopback {
		<-ctx.Done()
	}
	return d, err
}

func (c *Client) get(ctx context.Context, t target, kind Kind) (*Document, error) {
	leave, err := c.turns.wait(ctx, t.host)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, unavailable("nobody waits for it any more", err)
	case err != nil:
		return nil, ErrBusy
	}
	defer leave()

	began := c.now() // what is fetched is no newer than its request
	conn, err := c.transport.NewClientConn(ctx, t.url.Scheme, net.JoinHostPort(t.host, t.port))
	switch {
	case errors.Is(err, ErrNotAllowed), errors.Is(err, ErrUnavailable):
		return nil, err
	case err != nil:
		return nil, unavailable("TLS", err)
	}
	defer func() { _ = conn.Close() }()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, t.url.String(), nil)
	if err != nil {
		return nil, unavailable("request", err)
	}
	request.Header.Set("Accept", kind.Accept)
	request.Header.Set("Accept-Encoding", "identity")
	request.Header.Set("User-Agent", userAgent)
	response, err := conn.RoundTrip(request)
	switch {
	case ctx.Err() != nil:
		return nil, unavailable("it does not answer", ctx.Err())
	case err != nil: // which may quote what came
		return nil, unavailable("it does not answer in HTTP", nil)
	}
	defer response.Body.Close()

	mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode != http.StatusOK:
		return nil, unavailable(fmt.Sprintf("it answers with status %d", response.StatusCode), nil)
	case err != nil || !kind.Types(mediaType):
		return nil, unavailable("it answers with a Content-Type other than "+kind.Accept, nil)
	case response.Header.Get("Content-Encoding") != "":
		return nil, unavailable("it answers with a Content-Encoding nobody asked for", nil)
	case response.ContentLength > kind.MaxBytes:
		return nil, unavailable(fmt.Sprintf("it is longer than %d bytes", kind.MaxBytes), nil)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, kind.MaxBytes+1))
	switch {
	case ctx.Err() != nil:
		return nil, unavailable("it takes too long", ctx.Err())
	case err != nil:
		return nil, unavailable("it breaks off", nil)
	case int64(len(body)) > kind.MaxBytes:
		return nil, unavailable(fmt.Sprintf("it is longer than %d bytes", kind.MaxBytes), nil)
	}
	fresh := min(max(freshness(response.Header, began), kind.MinFresh), kind.MaxFresh)
	return &Document{Body: body, MediaType: mediaType, FetchedAt: began, FreshUntil: began.Add(fresh)}, nil
}

// connect resolves the host and connects to one of the addresses that were
// vetted, so that a second answer of its name server changes nothing.
func (c *Client) connect(ctx context.Context, network, address string) (conn net.Conn, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, unavailable("address", err)
	}
	var tries []netip.Addr
	if oauth.IsLoopback(host) {
		tries = loopback(host)
	} else if tries, err = c.addresses(ctx, host); err != nil {
		return nil, err
	}
	for _, addr := range tries {
		// An address that swallows everything leaves time for the others.
		trying, cancel := context.WithTimeout(ctx, patience/time.Duration(len(tries)))
		conn, err = c.dial(trying, network, net.JoinHostPort(addr.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
	}
	return nil, unavailable("nothing listens there", err)
}

func unavailable(why string, err error) error {
	if err == nil {
		return fmt.Errorf("%w: %s", ErrUnavailable, why)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, why, err)
}
