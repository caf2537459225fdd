package doctor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The bounds of a run.
const (
	maxRequests = 90
	maxAnswer   = 256 << 10
	perRequest  = 15 * time.Second
	allProbes   = 90 * time.Second
)

// line sends the requests of a run, within its bounds. It follows no redirect and keeps no cookie.
type line struct {
	client    *http.Client
	transport *http.Transport
	left      int   // requests
	most      int64 // bytes of a response that are read
	agent     string
}

func newLine(o Options) *line {
	l := &line{transport: o.Transport, left: maxRequests, most: maxAnswer, agent: "cardea-doctor/" + o.Version}
	if l.transport == nil {
		l.transport = &http.Transport{Proxy: proxy, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4}
	} else {
		l.transport = l.transport.Clone()
	}
	l.client = &http.Client{Transport: l.transport, Timeout: perRequest,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return l
}

// proxy is http.ProxyFromEnvironment, but returns none for this machine, names below localhost included, because what
// is sent there in plain text must not leave it.
func proxy(r *http.Request) (*url.URL, error) {
	if isLoopbackHost(r.URL.Hostname()) {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

func (l *line) close() { l.transport.CloseIdleConnections() }

// trust makes l accept any certificate from now on, because the rest can be looked at even so. No secret is sent then.
func (l *line) trust() {
	t := l.transport.Clone()
	t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // #nosec G402 -- reported, and nothing secret is sent
	l.transport, l.client.Transport = t, t
}

// answer is the response to a request, or the error in its place. The zero answer is that of a request not sent.
type answer struct {
	method, url string
	status      int
	header      http.Header
	body        []byte
	err         error
}

var errBudget = errors.New("too many requests for one diagnosis, or too little time")

// ask sends a request. An empty User-Agent in header is none.
func (l *line) ask(ctx context.Context, method, address string, body []byte, header http.Header) answer {
	a := answer{method: method, url: address}
	if l.left--; l.left < 0 || ctx.Err() != nil {
		a.err = errBudget
		return a
	}
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("User-Agent", l.agent)
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := l.client.Do(req)
	if err != nil {
		if a.err = err; ctx.Err() != nil { // this diagnosis has ended, and the server may be slow or not
			a.err = errBudget
		}
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, a.err = read(resp, l.most)
	return a
}

// read reads the body, or of a stream of events the first response (it stays open), or of a stream that answers GET
// nothing.
func read(resp *http.Response, most int64) ([]byte, error) {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	limited := io.LimitReader(resp.Body, most)
	switch {
	case media != "text/event-stream":
		return io.ReadAll(limited)
	case resp.Request.Method == http.MethodGet:
		return nil, nil
	}
	scanner := bufio.NewScanner(limited)
	scanner.Buffer(nil, int(most))
	for scanner.Scan() {
		data, found := bytes.CutPrefix(scanner.Bytes(), []byte("data:"))
		if found && (bytes.Contains(data, []byte(`"result"`)) || bytes.Contains(data, []byte(`"error"`))) {
			return bytes.Clone(bytes.TrimSpace(data)), nil
		}
	}
	return nil, scanner.Err()
}

// tried reports whether the request was sent.
func (a answer) tried() bool { return a.url != "" && !errors.Is(a.err, errBudget) }

// came reports whether there is a response.
func (a answer) came() bool { return a.status != 0 }

// elseStands reports whether what answers is not the MCP server, or not as it usually does: a redirect, a limit, or a
// fault of its own.
func (a answer) elseStands() bool {
	return a.status/100 == 3 || a.status == http.StatusTooManyRequests || a.status >= 500
}

func (a answer) media() string {
	media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return media
}

// object returns the body if it is a JSON object, and nil otherwise.
func (a answer) object() map[string]any {
	var members map[string]any
	if json.Unmarshal(a.body, &members) != nil {
		return nil
	}
	return members
}

// page reports whether the body is HTML, even if its type says something else.
func (a answer) page() bool {
	start := strings.ToLower(string(a.body[:min(len(a.body), 200)]))
	return a.media() == "text/html" || strings.HasPrefix(strings.TrimSpace(start), "<!doctype html") ||
		strings.HasPrefix(strings.TrimSpace(start), "<html")
}

// moved returns where a redirect leads, or nil.
func (a answer) moved() *url.URL {
	if a.status < 300 || a.status > 399 || a.header.Get("Location") == "" {
		return nil
	}
	base, err := url.Parse(a.url)
	if err != nil {
		return nil
	}
	to, err := base.Parse(a.header.Get("Location"))
	if err != nil {
		return nil
	}
	return to
}

// result returns the result of a JSON-RPC response, or nil.
func (a answer) result() map[string]any {
	result, _ := a.object()["result"].(map[string]any)
	return result
}

// problem returns the code of a JSON-RPC error, or 0.
func (a answer) problem() int {
	problem, _ := a.object()["error"].(map[string]any)
	code, _ := problem["code"].(float64)
	return int(code)
}

// certificateError returns what is wrong with the certificate if that is why a request failed.
func certificateError(err error) error {
	var wrong *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	var authority x509.UnknownAuthorityError
	switch {
	case errors.As(err, &wrong):
		return wrong.Err
	case errors.As(err, &authority):
		return authority
	case errors.As(err, &record):
		return record
	}
	return nil
}

// texts returns the strings of a JSON array, or nil.
func texts(value any) (list []string) {
	values, _ := value.([]any)
	for _, v := range values {
		if s, ok := v.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

func text(value any) string {
	s, _ := value.(string)
	return s
}
