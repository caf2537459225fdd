package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/cardea-auth/cardea/internal/oauth"
)

// Bounds of what a provider may cost: the time of a request with its answer, the length of an answer in bytes, and the
// number of connections.
const (
	patience    = 10 * time.Second
	maxAnswer   = 1 << 20
	connections = 32
)

// newClient returns the HTTP client for one provider. The operator chose the provider, so it may be in a private
// network. Redirects are not followed, because a secret or a code must not go where the metadata does not say.
func newClient() *http.Client {
	return &http.Client{
		Timeout: patience,
		Transport: bounded{&http.Transport{
			Proxy:                  oauth.Proxy,
			DialContext:            oauth.Dial(patience / 2),
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    patience / 2,
			MaxResponseHeaderBytes: 64 << 10,
			MaxConnsPerHost:        connections,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        time.Minute,
		}},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return fmt.Errorf("the provider redirects to %s://%s; configure that address instead",
				r.URL.Scheme, r.URL.Host)
		},
	}
}

// bounded limits the length of answers.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper. A trace shows it; the provider, which others run, is not told of the trace.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	_, span := trace.SpanFromContext(r.Context()).TracerProvider().Tracer("cardea").Start(r.Context(), "provider")
	defer span.End()
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &atMost{resp.Body, maxAnswer}
	}
	return resp, err
}

var errTooLong = errors.New("the answer is longer than 1 MB")

// atMost reads at most left bytes, and then fails.
type atMost struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (a *atMost) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p[:min(len(p), a.left+1)])
	if a.left -= n; a.left < 0 {
		return 0, errTooLong
	}
	return n, err
}
