// Package fetch fetches documents from URLs that strangers choose: Client ID Metadata Documents, key sets and logos.
// Such a URL may point into the server's own network, and the response may be slow, huge or malicious. Therefore the
// package refuses everything that is not known to be harmless, and limits everything else.
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
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Errors of Client.Get. The first two are wrapped with details for the log, such as addresses and states of
// connections. A stranger should get the same message in all cases, because the details reveal what the network looks
// like.
var (
	ErrNotAllowed  = errors.New("the URL may not be fetched")
	ErrUnavailable = errors.New("the URL could not be fetched")
	// ErrBusy is a refusal, because it does not depend on the document.
	ErrBusy = oauth.RefuseBusy(patience, "this server is running too many fetches at the moment: try again later")
)

const (
	patience = 5 * time.Second // for a whole fetch, including the wait for its turn

	maxHeader  = 16 << 10 // bytes of all headers of a response, including those of 1xx responses
	maxPending = 1024     // fetches under way or waiting

	userAgent = "Cardea (+https://github.com/cardea-auth/cardea)"
)

// Options configure a Client.
type Options struct {
	// AllowLoopback allows fetches from loopback hosts (oauth.IsLoopback of the host in the URL), with http and https.
	AllowLoopback bool
	// Now is the clock, for caching and for certificates. It must be set.
	Now func() time.Time
	// LookupIP resolves a domain name; nil uses the system's resolver.
	LookupIP func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to an IP address that was checked; nil uses net.Dialer.DialContext.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// RootCAs verify servers; nil uses those of the system.
	RootCAs *x509.CertPool
}

// Client fetches documents. Use New to make one. It is safe for concurrent use.
type Client struct {
	allowLoopback bool
	now           func() time.Time
	lookupIP      func(ctx context.Context, host string) ([]netip.Addr, error)
	dial          func(ctx context.Context, network, address string) (net.Conn, error)
	transport     *http.Transport
	pending       chan struct{} // holds one token for each fetch under way or waiting
	turns         *turns

	fetched, notAllowed, failed, busy atomic.Uint64
}

// Stats counts what a Client has done since it was made, and what it is doing.
type Stats struct {
	Pending                           int    // fetches under way or waiting
	Fetched, NotAllowed, Failed, Busy uint64 // calls of Get by what they returned
}

// Stats returns the numbers at this moment.
func (c *Client) Stats() Stats {
	return Stats{Pending: len(c.pending), Fetched: c.fetched.Load(), NotAllowed: c.notAllowed.Load(),
		Failed: c.failed.Load(), Busy: c.busy.Load()}
}

// New returns a Client with the given options.
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
	// Proxy is not set, because the environment must not redirect requests.
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

// Get fetches the document at url once. It returns ErrNotAllowed if the URL or an address of its host is not allowed,
// ErrBusy if too many other fetches are under way, and ErrUnavailable for all other failures, including the end of ctx.
//
// Get takes at most 5 seconds. A failure for a URL that CheckURL accepts takes exactly 5 seconds, unless the host is
// loopback, ctx ends or too many fetches are under way, because the time of a failure would tell a stranger whether a
// port is closed or filtered and whether a name resolves.
//
// A trace shows it without the URL, which may be the id of a client. The host is not told of the trace.
func (c *Client) Get(ctx context.Context, url string, kind Kind) (d *Document, err error) {
	ctx, span := trace.SpanFromContext(ctx).TracerProvider().Tracer("cardea").Start(ctx, "fetch")
	defer func() {
		outcome := "fetched"
		switch {
		case err == nil:
			c.fetched.Add(1)
		case errors.Is(err, ErrNotAllowed):
			outcome = "not_allowed"
			c.notAllowed.Add(1)
		case errors.Is(err, ErrBusy):
			outcome = "busy"
			c.busy.Add(1)
		default:
			outcome = "failed"
			c.failed.Add(1)
		}
		span.SetAttributes(attribute.String("cardea.outcome", outcome))
		span.End()
	}()
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
	d, err = c.get(ctx, t, kind)
	if err != nil && !t.loopback {
		<-ctx.Done()
	}
	return d, err
}

func (c *Client) get(ctx context.Context, t target, kind Kind) (*Document, error) {
	leave, err := c.turns.wait(ctx, t.host)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, unavailable("the caller stopped waiting", err)
	case err != nil:
		return nil, ErrBusy
	}
	defer leave()

	began := c.now() // the document may be as old as the request
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
		return nil, unavailable("the server does not respond", ctx.Err())
	case err != nil: // err is left out because it may quote the response
		return nil, unavailable("the server does not respond with HTTP", nil)
	}
	defer response.Body.Close()

	mediaType, _, err := mime.ParseMediaType(response.Header.Get("Content-Type"))
	switch {
	case response.StatusCode != http.StatusOK:
		return nil, unavailable(fmt.Sprintf("the response has status %d", response.StatusCode), nil)
	case err != nil || !kind.Types(mediaType):
		return nil, unavailable("the response has a Content-Type other than "+kind.Accept, nil)
	case response.Header.Get("Content-Encoding") != "":
		return nil, unavailable("the response has a Content-Encoding, which was not requested", nil)
	case response.ContentLength > kind.MaxBytes:
		return nil, unavailable(fmt.Sprintf("the document is longer than %d bytes", kind.MaxBytes), nil)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, kind.MaxBytes+1))
	switch {
	case ctx.Err() != nil:
		return nil, unavailable("the response took too long", ctx.Err())
	case err != nil:
		return nil, unavailable("the response ended early", nil)
	case int64(len(body)) > kind.MaxBytes:
		return nil, unavailable(fmt.Sprintf("the document is longer than %d bytes", kind.MaxBytes), nil)
	}
	fresh := min(max(freshness(response.Header, began), kind.MinFresh), kind.MaxFresh)
	return &Document{Body: body, MediaType: mediaType, FetchedAt: began, FreshUntil: began.Add(fresh)}, nil
}

// connect resolves the host once and connects to one of the addresses that were checked, so that a different second
// answer of its name server has no effect.
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
		// Leave time for the other addresses if this one does not respond.
		trying, cancel := context.WithTimeout(ctx, patience/time.Duration(len(tries)))
		conn, err = c.dial(trying, network, net.JoinHostPort(addr.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
	}
	return nil, unavailable("connecting failed", err)
}

// Transport returns a transport for those that send more than a request for a document. It connects to the addresses to
// which Get connects, and to no others, and takes no proxy from the environment. It bounds neither time nor number.
func (c *Client) Transport() *http.Transport {
	t := c.transport.Clone()
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil || oauth.IsLoopback(host) && !c.allowLoopback {
			return nil, notAllowed("its host is this computer")
		}
		if addr, err := netip.ParseAddr(host); err == nil && !oauth.IsLoopback(host) { // which Get does not accept
			if use := vet(addr.Unmap()); use != "" {
				return nil, notAllowed("its host is the address %s (%s)", addr, use)
			}
			return c.dial(ctx, network, address)
		}
		return c.connect(ctx, network, address)
	}
	return t
}

func unavailable(why string, err error) error {
	if err == nil {
		return fmt.Errorf("%w: %s", ErrUnavailable, why)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, why, err)
}
