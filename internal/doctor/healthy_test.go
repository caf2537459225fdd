package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cardea-auth/cardea/internal/doctor"
)

// A healthy server has no finding, asked in any way, and nothing stays behind.
func TestHealthy(t *testing.T) {
	for name, o := range map[string]doctor.Options{"outside": asks, "register": enrols, "login": signsIn} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			report := w.run(o)
			if report.Verdict != doctor.Fine {
				t.Errorf("verdict %s:\n%s", report.Verdict, explain(report))
			}
			skipped := 0
			for _, c := range report.Checks {
				if c.Status == doctor.Skip {
					skipped++
				}
			}
			if o.Login && (skipped > 1 || w.revoked == 0) { // a session is there only if the server keeps some
				t.Errorf("%d skipped, %d revoked:\n%s", skipped, w.revoked, explain(report))
			}
			if len(w.clients) > 0 || w.deleted > 1 || len(report.Notes) > 0 {
				t.Errorf("%d clients left, %d deleted, notes %q", len(w.clients), w.deleted, report.Notes)
			}
		})
	}
}

// Tokens may have aud and scopes as lists.
func TestTokenShape(t *testing.T) {
	w := newWorld(t)
	w.claims = func(c map[string]any) { c["aud"], c["scopes"] = []any{c["aud"]}, []any{"read"} }
	w.accepts = func(c map[string]any) bool {
		aud, _ := c["aud"].([]any)
		return len(aud) == 1 && aud[0] == w.url
	}
	if report := w.run(signsIn); report.Verdict != doctor.Fine {
		t.Errorf("verdict %s:\n%s", report.Verdict, explain(report))
	}
}

// Responses may be streams that stay open.
func TestStreams(t *testing.T) {
	w := newWorld(t)
	w.streams, w.sessions = true, true
	report := w.run(signsIn)
	if report.Verdict != doctor.Fine || !strings.Contains(explain(report), "look was called, and answered") {
		t.Errorf("verdict %s:\n%s", report.Verdict, explain(report))
	}
}

// A server that keeps pages of strangers out (Origin) is not blamed for that.
func TestForeignOrigin(t *testing.T) {
	w := newWorld(t)
	w.atMCP = func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Origin") == "" {
			return false
		}
		rw.WriteHeader(http.StatusForbidden)
		return true
	}
	if report := w.run(asks); report.Verdict != doctor.Fine {
		t.Errorf("verdict %s:\n%s", report.Verdict, explain(report))
	}
}

// No browser is opened at, and no secret sent to, what is not https.
func TestSecureEndpoints(t *testing.T) {
	for _, address := range []string{"http://auth.example/authorize", "file://host/etc/passwd", "calculator://x",
		"-x"} {
		w := newWorld(t)
		w.metadata["authorization_endpoint"] = address
		report := w.run(signsIn)
		if len(w.clients)+w.deleted > 0 ||
			!strings.Contains(explain(report), "skip login (authorization-server): authorization_endpoint") {
			t.Errorf("%s: %d clients\n%s", address, len(w.clients), explain(report))
		}
	}
}

// A server without OAuth is not blamed for that.
func TestWithoutOAuth(t *testing.T) {
	w := newWorld(t)
	w.open, w.prmPath, w.prmRoot, w.sessions = true, false, false, true
	w.cors = func(http.Header) {} // without tokens, no page of a stranger should get in
	report := w.run(signsIn)
	if report.Verdict != doctor.Fine {
		t.Errorf("verdict %s:\n%s", report.Verdict, explain(report))
	}
	for _, c := range report.Checks {
		if (strings.HasPrefix(c.ID, "prm.") || strings.HasPrefix(c.ID, "as.")) && c.Status != doctor.Skip {
			t.Errorf("%s is %s: %s", c.ID, c.Status, c.Found)
		}
	}
}

// A client that stays registered is named.
func TestLeftBehind(t *testing.T) {
	w := newWorld(t)
	w.redirect = func(string, string) bool { return true }
	w.atAS = below("/register/", notImplemented)
	report := w.run(enrols)
	if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], `"c1" stays registered`) ||
		!strings.Contains(report.Notes[0], "501") {
		t.Errorf("notes %q", report.Notes)
	}
}

// A server that cannot be reached is one finding, and everything else is left out.
func TestUnreachable(t *testing.T) {
	w := newWorld(t)
	w.mcp.Close()
	report := w.run(signsIn)
	for _, c := range report.Checks {
		if want := map[bool]doctor.Status{true: doctor.Fail,
			false: doctor.Skip}[c.ID == "reachable"]; c.Status != want {
			t.Errorf("%s is %s (%s), want %s", c.ID, c.Status, c.Found, want)
		}
	}
}

// What is not the URL of a server is explained.
func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"":                                 "missing",
		"npx -y @scope/server":             "cardea gateway",
		"uvx":                              "cardea gateway",
		"stdio:server":                     "cardea gateway",
		"mcp.example.com/mcp":              "did you mean https://mcp.example.com/mcp",
		"localhost:8081/mcp":               "did you mean http://localhost:8081/mcp",
		"ftp://mcp.example.com":            "begins with https://",
		"nonsense":                         "begins with https://",
		"https://user:pw@mcp.example.com/": "user name",
		"https://mcp.example.com/#x":       "fragment",
	} {
		_, err := doctor.Run(t.Context(), doctor.Options{URL: text})
		if address := (*doctor.AddressError)(nil); !errors.As(err, &address) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "pw@") {
			t.Errorf("%q: the error repeats the password", text)
		}
	}
}

// A refused token is explained by the log of the authorization server, if that is at hand.
func TestExplain(t *testing.T) {
	w := newWorld(t)
	w.accepts = func(map[string]any) bool { return false }
	o := signsIn
	asked := ""
	good := false
	o.Explain = func(_ context.Context, issuer, client, token string) (string, bool) {
		asked = fmt.Sprint(issuer == w.as.URL, client, claimsOf(token) != nil)
		return "so it is", good
	}
	for _, want := range []string{"does not accept it either: so it is", "says: so it is"} {
		if report := w.run(o); !strings.Contains(explain(report), want) || !strings.HasPrefix(asked, "truec1true") {
			t.Errorf("asked %s, want %q:\n%s", asked, want, explain(report))
		}
		good = true
	}
}

// The guide lists each row of the table, with the same number and check.
func TestGuide(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\| [^|]+ \\| `([a-z_.]+)` \\|").FindAllStringSubmatch(string(guide), -1) {
		listed = append(listed, m[1]+" "+m[2])
	}
	var want []string
	for i, row := range doctor.Rows() {
		if row.Number != i+1 {
			t.Errorf("row %d is the rule number %d", i+1, row.Number)
		}
		want = append(want, fmt.Sprint(row.Number, " ", row.ID))
	}
	if !slices.Equal(listed, want) {
		t.Errorf("the guide lists %q, want %q", listed, want)
	}
}

func notImplemented(rw http.ResponseWriter, _ *http.Request) {
	rw.WriteHeader(http.StatusNotImplemented)
}
