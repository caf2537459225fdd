package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxForm bounds what is sent on to the issuer, in bytes.
const maxForm = 64 << 10

// OlderClients returns a handler for what clients of MCP 2025-03-26 look for at the MCP server's own origin, because
// they know neither protected resource metadata nor the resource parameter: the metadata of the issuer, and the three
// default endpoints for those that read no metadata. It is for an origin with one MCP server; mount it where these
// paths are free:
//
//	older := g.OlderClients()
//	for _, path := range []string{"/.well-known/oauth-authorization-server", "/authorize", "/token", "/register"} {
//		mux.Handle(path, older)
//	}
//
// /authorize redirects to the issuer's authorization endpoint, and the metadata served here name /authorize as the
// authorization endpoint, so that a request without resource gets the resource of this server (RFC 8707 §2). /token and
// /register send the request on to the issuer and its answer back, because these clients follow no redirect to another
// origin. Nothing else is sent on, in particular no cookie, and nothing is sent anywhere but to the endpoints that the
// issuer's metadata name.
//
// The server sees the codes and refresh tokens of these clients; newer clients send theirs to the issuer directly. The
// issuer counts all of them as one address unless the server is among its trusted proxies, because the address of a
// client is sent on in X-Forwarded-For.
func (g *Guard) OlderClients() http.Handler {
	type endpoint struct {
		method string
		answer func(http.ResponseWriter, *http.Request, metadata) error
	}
	endpoints := map[string]endpoint{
		authorizationServer: {http.MethodGet, g.olderMetadata},
		"/authorize":        {http.MethodGet, g.olderAuthorize},
		"/token": {http.MethodPost, func(w http.ResponseWriter, r *http.Request, m metadata) error {
			return g.handOn(w, r, m.Token)
		}},
		"/register": {http.MethodPost, func(w http.ResponseWriter, r *http.Request, m metadata) error {
			return g.handOn(w, r, m.Registration)
		}},
	}
	return CORS(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, found := endpoints[r.URL.EscapedPath()]
		switch {
		case !found:
			errNothing.write(w)
			return
		case r.Method != e.method && (r.Method != http.MethodHead || e.method != http.MethodGet):
			w.Header().Set("Allow", e.method+", OPTIONS")
			(&Error{Status: http.StatusMethodNotAllowed, Code: "invalid_request",
				Description: "Use " + e.method + " here."}).write(w)
			return
		}
		m, err := g.issuer.metadata.current(r.Context())
		if err == nil {
			err = e.answer(w, r, m)
		}
		var refusal *Error
		switch {
		case err == nil:
		case errors.As(err, &refusal):
			refusal.write(w)
		default:
			g.log.WarnContext(r.Context(), "guard: issuer cannot be reached", "issuer", g.issuer.id, "error", err)
			errUnreachable.write(w)
		}
	}))
}

var (
	errNothing = &Error{Status: http.StatusNotFound, Code: "not_found", Description: "There is nothing here."}

	// 502, because after it clients look for metadata in the next place, whereas they stop at any other 5xx.
	errUnreachable = &Error{Status: http.StatusBadGateway, Code: "temporarily_unavailable",
		Description: "The authorization server cannot be reached; try again.", RetryAfter: interval}
)

// olderMetadata answers with the issuer's metadata, in which /authorize of this server is the authorization endpoint.
func (g *Guard) olderMetadata(w http.ResponseWriter, _ *http.Request, m metadata) error {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(m.document, &members); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	if _, ok := members["authorization_endpoint"]; ok {
		own, err := json.Marshal(originOf(g.resource) + "/authorize")
		if err != nil {
			return fmt.Errorf("guard: %w", err)
		}
		members["authorization_endpoint"] = own
	}
	body, err := json.Marshal(members)
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	w.Header().Set("Cache-Control", "public, max-age=300")
	writeBody(w, http.StatusOK, body)
	return nil
}

// olderAuthorize redirects the browser to the issuer with the query as it is, and with resource if that is missing.
func (g *Guard) olderAuthorize(w http.ResponseWriter, r *http.Request, m metadata) error {
	target, err := g.issuer.endpoint(m.Authorization)
	if err != nil {
		return err
	}
	query := []string{target.RawQuery, r.URL.RawQuery}
	if r.URL.Query().Get("resource") == "" {
		query = append(query, "resource="+url.QueryEscape(g.resource))
	}
	target.RawQuery = strings.Trim(strings.Join(query, "&"), "&")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", target.String())
	w.WriteHeader(http.StatusFound)
	return nil
}

// handOn sends a request on to an endpoint of the issuer, and the answer back, with only those headers that these
// endpoints need.
func (g *Guard) handOn(w http.ResponseWriter, r *http.Request, endpoint string) error {
	target, err := g.issuer.endpoint(endpoint)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	on, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(),
		http.MaxBytesReader(w, r.Body, maxForm))
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	on.ContentLength = r.ContentLength
	for _, name := range []string{"Authorization", "Content-Type", "Accept"} {
		if values := r.Header.Values(name); len(values) > 0 {
			on.Header[name] = values
		}
	}
	on.Header.Set("X-Forwarded-For", address(r))
	resp, err := g.issuer.client.Do(on)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return &Error{Status: http.StatusRequestEntityTooLarge, Code: "invalid_request",
			Description: "The request is too long.", cause: err}
	case err != nil:
		return fmt.Errorf("guard: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return fmt.Errorf("guard: %s: %w", target, err)
	case len(body) > maxDocument:
		return fmt.Errorf("guard: the answer of %s is longer than %d bytes", target, maxDocument)
	case resp.StatusCode >= 300 && resp.StatusCode <= 399, !isJSON(resp.Header): // not an OAuth endpoint
		return fmt.Errorf("guard: %s answered %s, or no JSON", target, resp.Status)
	}
	w.Header().Set("Cache-Control", "no-store")
	for _, name := range []string{"Content-Type", "Www-Authenticate", "Retry-After"} {
		if values := resp.Header.Values(name); len(values) > 0 {
			w.Header()[name] = values
		}
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(resp.StatusCode)
	_, _ = w.Write(body) // fails only if the client has gone
	return nil
}

// endpoint parses the URL of an endpoint in the metadata. The error is errNothing if s is empty.
func (i *issuer) endpoint(s string) (*url.URL, error) {
	switch {
	case s == "":
		return nil, errNothing
	case !i.trusts(s):
		return nil, fmt.Errorf("guard: the endpoint %q is not an https URL", s)
	}
	return url.Parse(s)
}

func originOf(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // it was parsed by New
	}
	return u.Scheme + "://" + u.Host
}
