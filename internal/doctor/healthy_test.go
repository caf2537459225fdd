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

// What cannot be removed again is said, with what removes it.
func TestLeftBehind(t *testing.T) {
	noToken := func(w *world) {
		w.enrolled = func(m map[string]any) { delete(m, "registration_access_token") }
	}
	deleting := func(statuses ...int) func(*world) {
		return func(w *world) {
			w.atAS = func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodDelete || len(statuses) == 0 {
					return false
				}
				rw.WriteHeader(statuses[0])
				statuses = statuses[1:]
				return true
			}
		}
	}
	for name, test := range map[string]struct {
		plant   func(*world)
		options doctor.Options
		found   string // "": nothing
		fix     string
	}{
		"no registration access token": {noToken, enrols, `"c1" stays registered`, "cardea client delete c1"},
		"no management over http": {func(w *world) {
			w.enrolled = func(m map[string]any) { m["registration_client_uri"] = "http://as.example/register/c1" }
		}, enrols, "is not an https URL", "ask an operator of"},
		"refused":           {deleting(405), enrols, "deleting it is answered with 405", `named "cardea doctor`},
		"a bad moment":      {deleting(503), enrols, "", ""},
		"a long bad moment": {deleting(503, 502), enrols, "deleting it is answered with 502", "delete the client"},
		"gone already":      {deleting(404), enrols, "", ""},
		"no revocation": {func(w *world) { delete(w.metadata, "revocation_endpoint") }, signsIn, "stay valid",
			"end the access"},
		"a refused revocation": {refuseRevocation, signsIn, "revoking them is answered with 400", "end the access"},
		"with its own client": {noToken, doctor.Options{Register: true, ClientID: "https://mine.example/client"}, "",
			""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.plant(w)
			report := w.run(test.options)
			found, fix := "", ""
			for _, c := range report.Checks {
				if strings.HasPrefix(c.Found, "the test client") ||
					strings.HasPrefix(c.Found, "the tokens of this sign-in") {
					found, fix = c.Found, c.Fix
				}
			}
			if report.Verdict != doctor.Fine || !strings.Contains(found, test.found) ||
				!strings.Contains(fix, test.fix) || test.found == "" && found != "" {
				t.Errorf("found %q and fix %q, want %q and %q:\n%s", found, fix, test.found, test.fix, explain(report))
			}
		})
	}
}

func refuseRevocation(w *world) {
	w.atAS = only("/revoke", func(rw http.ResponseWriter, _ *http.Request) {
		writeJSON(rw, 400, map[string]any{"error": "invalid_client"})
	})
}

// A client with a secret gives its tokens back in the way in which it got them.
func TestRevokeWithSecret(t *testing.T) {
	w := newWorld(t)
	w.metadata["token_endpoint_auth_methods_supported"] = []string{"client_secret_basic"}
	w.enrolled = func(m map[string]any) { m["client_secret"] = "s3cret" }
	sent := map[string]string{}
	w.atAS = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/revoke" || r.URL.Path == "/token" {
			_ = r.ParseForm()
			sent[r.URL.Path] = r.Header.Get("Authorization") + r.Form.Get("client_secret")
		}
		return false
	}
	if w.run(signsIn); sent["/revoke"] == "" || sent["/revoke"] != sent["/token"] {
		t.Errorf("sent %q", sent)
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
