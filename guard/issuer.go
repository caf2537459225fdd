package guard

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

const (
	maxDocument = 256 << 10 // bytes of metadata, keys or an introspection response
	maxKeys     = 100

	authorizationServer = "/.well-known/oauth-authorization-server"
)

// issuer is the authorization server as a guard sees it: its metadata (RFC 8414) and its keys (RFC 7517).
type issuer struct {
	id     string
	client *http.Client
	local  bool // the issuer itself is plain http on a loopback host
	log    *slog.Logger

	metadata *source[metadata]
	keys     *source[keySet]
}

// metadata is the part of the metadata of RFC 8414 §2 that the guard needs, and the whole document as it was sent.
type metadata struct {
	Issuer        string `json:"issuer"`
	JWKS          string `json:"jwks_uri"`
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Registration  string `json:"registration_endpoint"`
	Introspection string `json:"introspection_endpoint"`

	document []byte
}

// keySet holds the keys that verify tokens.
type keySet struct {
	byID  map[string]*jose.JSONWebKey
	epoch int // grows when a key is withdrawn
}

func newIssuer(id string, u *url.URL, client *http.Client, now func() time.Time, log *slog.Logger) *issuer {
	if client == nil {
		client = &http.Client{}
		if u.Scheme == "http" && strings.HasSuffix(u.Hostname(), ".localhost") {
			client.Transport = belowLocalhost()
		}
	}
	own := *client
	own.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		first := via[0].URL
		if len(via) > 3 || r.URL.Scheme != first.Scheme || r.URL.Host != first.Host {
			return fmt.Errorf("redirected to %s://%s", r.URL.Scheme, r.URL.Host)
		}
		return nil
	}
	failed := func(err error) { log.Warn("guard: issuer cannot be reached", "issuer", id, "error", err) }

	i := &issuer{id: id, client: &own, local: u.Scheme == "http", log: log}
	i.metadata = &source[metadata]{now: now, failed: failed,
		fetch: func(ctx context.Context) (metadata, time.Duration, error) {
			return i.fetchMetadata(ctx, insert(u, authorizationServer))
		}}
	i.keys = &source[keySet]{now: now, failed: failed, fetch: i.fetchKeys}
	return i
}

// belowLocalhost returns a transport to servers of this machine under a name below localhost: past the proxy of the
// environment and without a name lookup (RFC 6761 §6.3), because credentials in plain text must not leave the machine.
func belowLocalhost() *http.Transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &http.Transport{IdleConnTimeout: 90 * time.Second, DialContext: func(ctx context.Context,
		network, address string) (net.Conn, error) {
		if host, port, err := net.SplitHostPort(address); err == nil && strings.HasSuffix(host, ".localhost") {
			address = net.JoinHostPort("localhost", port)
		}
		return dialer.DialContext(ctx, network, address)
	}}
}

func (i *issuer) fetchMetadata(ctx context.Context, url string) (metadata, time.Duration, error) {
	body, header, err := i.load(ctx, url)
	if err != nil {
		return metadata{}, 0, err
	}
	m := metadata{document: body}
	if err := json.Unmarshal(body, &m); err != nil {
		return metadata{}, 0, fmt.Errorf("guard: %s: %w", url, err)
	}
	switch {
	case m.Issuer != i.id: // RFC 8414 §3.3
		return metadata{}, 0, fmt.Errorf("guard: %s is the metadata of %q, not of %q", url, m.Issuer, i.id)
	case !i.trusts(m.JWKS):
		return metadata{}, 0, fmt.Errorf("guard: %s: jwks_uri %q is not an https URL", url, m.JWKS)
	case m.Introspection != "" && !i.trusts(m.Introspection):
		return metadata{}, 0, fmt.Errorf("guard: %s: introspection_endpoint %q is not an https URL", url,
			m.Introspection)
	}
	return m, freshness(header), nil
}

// trusts reports whether the guard may send requests to s, which the metadata names: an https URL, or any URL on a
// loopback host if the issuer itself is http on one.
func (i *issuer) trusts(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && u.User == nil && (u.Scheme == "https" || i.local && secure(u))
}

func (i *issuer) fetchKeys(ctx context.Context) (keySet, time.Duration, error) {
	m, err := i.metadata.current(ctx)
	if err != nil {
		return keySet{}, 0, err
	}
	body, header, err := i.load(ctx, m.JWKS)
	if err != nil {
		return keySet{}, 0, err
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return keySet{}, 0, fmt.Errorf("guard: %s: %w", m.JWKS, err)
	}
	keys := keySet{byID: map[string]*jose.JSONWebKey{}}
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		if err := key.UnmarshalJSON(raw); err == nil && verifies(&key) {
			keys.byID[key.KeyID] = &key
		}
	}
	if len(keys.byID) == 0 {
		return keySet{}, 0, fmt.Errorf("guard: %s has no key that could verify a token", m.JWKS)
	}
	keys.epoch = i.keys.peek().epoch
	for kid, key := range i.keys.peek().byID {
		if now, ok := keys.byID[kid]; !ok || !same(now, key) {
			keys.epoch++
			break
		}
	}
	return keys, freshness(header), nil
}

// verifies reports whether key is a public signature key with a kid, and strong enough (RFC 7518 §3.3). Keys that are
// so large that a signature takes long to check do not come here, because package jose refuses them.
func verifies(key *jose.JSONWebKey) bool {
	if rsaKey, ok := key.Key.(*rsa.PublicKey); ok && rsaKey.N.BitLen() < 2048 {
		return false
	}
	return key.KeyID != "" && key.IsPublic() && key.Valid() && (key.Use == "" || key.Use == "sig")
}

func same(a, b *jose.JSONWebKey) bool {
	left, err := json.Marshal(a)
	if err != nil {
		return false
	}
	right, err := json.Marshal(b)
	return err == nil && bytes.Equal(left, right)
}

var errUnknownKey = errors.New("guard: no such key")

// key returns the key named kid and the epoch of its set. The error is errUnknownKey if the issuer has no such key, and
// another one if the issuer cannot be asked.
func (i *issuer) key(ctx context.Context, kid string) (*jose.JSONWebKey, int, error) {
	keys, err := i.keys.current(ctx)
	if err != nil {
		return nil, 0, err
	}
	if key, ok := keys.byID[kid]; ok {
		return key, keys.epoch, nil
	}
	// The issuer may have changed its keys since they were fetched.
	keys, err = i.keys.again(ctx)
	if key, ok := keys.byID[kid]; ok {
		return key, keys.epoch, nil
	}
	if err != nil {
		return nil, 0, err
	}
	return nil, 0, errUnknownKey
}

// load fetches a JSON document.
func (i *issuer) load(ctx context.Context, url string) ([]byte, http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("guard: %w", err)
	}
	return i.do(r)
}

func (i *issuer) do(r *http.Request) ([]byte, http.Header, error) {
	r.Header.Set("Accept", "application/json")
	resp, err := i.client.Do(r)
	if err != nil {
		return nil, nil, fmt.Errorf("guard: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("guard: %s: %w", r.URL, err)
	case resp.StatusCode != http.StatusOK:
		return nil, nil, fmt.Errorf("guard: %s answered %s", r.URL, resp.Status)
	case len(body) > maxDocument:
		return nil, nil, fmt.Errorf("guard: %s is longer than %d bytes", r.URL, maxDocument)
	case !isJSON(resp.Header):
		return nil, nil, fmt.Errorf("guard: %s is %q, not JSON", r.URL, resp.Header.Get("Content-Type"))
	}
	return body, resp.Header, nil
}

func isJSON(header http.Header) bool {
	kind, _, _ := mime.ParseMediaType(header.Get("Content-Type"))
	return kind == "application/json" || strings.HasSuffix(kind, "+json")
}

// freshness returns how long a document is used before it is fetched again: as long as Cache-Control says, between a
// minute and an hour, or five minutes without it.
func freshness(header http.Header) time.Duration {
	fresh := 5 * time.Minute
	for directive := range strings.SplitSeq(header.Get("Cache-Control"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return time.Minute
		case "max-age":
			if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
				fresh = time.Duration(seconds) * time.Second
			}
		}
	}
	return min(max(fresh, time.Minute), time.Hour)
}
