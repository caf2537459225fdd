package agent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"
)

// Transcript prints HTTP requests and responses for people to read. It shortens secrets.
type Transcript struct {
	w      io.Writer
	colour bool
}

// NewTranscript returns a transcript that writes to w, in colour if w is a terminal and NO_COLOR is not set.
func NewTranscript(w io.Writer) *Transcript {
	f, ok := w.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd())) // #nosec G115 -- a file descriptor is small
	return &Transcript{w: w, colour: terminal && os.Getenv("NO_COLOR") == ""}
}

const (
	bold  = "\x1b[1m"
	dim   = "\x1b[2m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	reset = "\x1b[0m"
)

func (t *Transcript) paint(style, text string) string {
	if !t.colour {
		return text
	}
	return style + text + reset
}

func (t *Transcript) step(number int, title, source string) {
	if source != "" {
		source = "  (" + source + ")"
	}
	fmt.Fprintf(t.w, "\n%s%s\n", t.paint(bold, fmt.Sprintf("%2d. %s", number, title)), t.paint(dim, source))
}

func (t *Transcript) done(format string, args ...any) {
	fmt.Fprintf(t.w, "    %s %s\n", t.paint(green, "✓"), fmt.Sprintf(format, args...))
}

func (t *Transcript) failed(err error) {
	fmt.Fprintf(t.w, "    %s %s\n", t.paint(red, "✗"), err)
}

// request shows a request: its method, address, token if there is one, and parameters, one per line.
func (t *Transcript) request(r *http.Request) {
	t.address(r.Method, r.URL)
	if kind, credential, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		t.detail("Authorization: " + kind + " " + shorten(credential))
	}
	if r.GetBody == nil {
		return
	}
	body, err := r.GetBody()
	if err != nil {
		return
	}
	text, err := io.ReadAll(body)
	switch {
	case err != nil:
	case r.Header.Get("Content-Type") == "application/json":
		t.members(text)
	default:
		t.parameters(string(text))
	}
}

// response shows a response: its status, challenge, and the members of its JSON.
func (t *Transcript) response(r *http.Response, body []byte) {
	fmt.Fprintf(t.w, "    ← %s\n", r.Status)
	if challenge := r.Header.Get("WWW-Authenticate"); challenge != "" {
		t.detail("WWW-Authenticate: " + challenge)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		t.members(body)
	}
}

// redirect shows the target of a redirect.
func (t *Transcript) redirect(to *url.URL) { t.address("redirected to", to) }

func (t *Transcript) address(verb string, u *url.URL) {
	fmt.Fprintf(t.w, "    → %s %s://%s%s\n", verb, u.Scheme, u.Host, u.Path)
	t.parameters(u.RawQuery)
}

// claims shows the claims of an access token (RFC 9068 §2.2). A real agent must not read them, because they are only
// for the MCP server.
func (t *Transcript) claims(token string) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return
	}
	if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
		t.detail("in the access token: " + string(payload))
	}
}

func (t *Transcript) parameters(query string) {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		if unescaped, err := url.QueryUnescape(value); err == nil {
			value = unescaped
		}
		if slices.Contains(secrets, name) {
			value = shorten(value)
		}
		t.detail(name + "=" + value)
	}
}

// members shows the members of a JSON object in the order of the text.
func (t *Transcript) members(object []byte) {
	d := json.NewDecoder(bytes.NewReader(object))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return
		}
		if slices.Contains(secrets, fmt.Sprint(name)) {
			value = json.RawMessage(`"` + shorten(strings.Trim(string(value), `"`)) + `"`)
		}
		t.detail(fmt.Sprintf("%q: %s", name, cutAt(160, string(value))))
	}
}

func (t *Transcript) detail(line string) {
	fmt.Fprintf(t.w, "      %s\n", t.paint(dim, line))
}

func cutAt(width int, text string) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width]) + "…"
	}
	return text
}

// secrets are the parameters and members that are always shortened.
var secrets = []string{
	"access_token", "refresh_token", "token", "code", "code_verifier", "client_secret",
	"password", "csrf", "request",
}

// shorten returns a part of a secret that is enough to recognise it, but not enough to use it.
func shorten(secret string) string {
	if len(secret) < 40 {
		return "…"
	}
	return secret[:10] + "…" + secret[len(secret)-4:]
}
