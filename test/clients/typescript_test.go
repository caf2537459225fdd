package clients_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// A step is a line that session.mjs prints.
type step struct {
	Step      string
	URL       string // authorize
	ClientID  string `json:"client_id"` // registered
	Secret    bool   // registered
	Scope     string // tokens
	Refresh   bool   // tokens
	Type      string // tokens
	Tools     []string
	Tool      string // called
	Failed    bool   // called
	Text      string // called
	Status    int    // refused
	Challenge string // refused
	Times     int    // refreshed
}

// The same session through both official TypeScript SDKs: discovery, registration, PKCE, sign-in, consent, a tool call,
// step-up for a second tool, refresh.
func TestTypeScriptSDK(t *testing.T) {
	d := startDemo(t)
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			ada := newPerson(t, d.Email, d.Password)
			cmd := node(t.Context(), t, "typescript-"+version+".mjs", d.MCP)
			var complaint strings.Builder
			cmd.Stderr = &complaint
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var steps []step
			var trail []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				var s step
				if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
					t.Errorf("the driver printed %q", lines.Text())
					continue
				}
				steps = append(steps, s)
				trail = append(trail, lines.Text())
				if s.Step == "authorize" {
					back, err := ada.Visit(s.URL)
					if err != nil {
						t.Error(err)
						in.Close()
						continue
					}
					fmt.Fprintln(in, back)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v after\n%s\n%s", err, strings.Join(trail, "\n"), complaint.String())
			}
			want := []string{
				"registered", "authorize", "tokens", "connected", "called get_forecast",
				"refused", "authorize", "tokens", "called create_event", "called get_forecast",
				"tokens", "called create_event", "refreshed",
			}
			var got []string
			for _, s := range steps {
				got = append(got, strings.TrimSpace(s.Step+" "+s.Tool))
				switch s.Step {
				case "registered":
					if s.Secret {
						t.Error("a public client was given a secret")
					}
				case "tokens":
					if !s.Refresh || s.Type != "Bearer" {
						t.Errorf("tokens: refresh token %t, type %q; want a refresh token and Bearer", s.Refresh, s.Type)
					}
				case "refused":
					for _, part := range []string{`error="insufficient_scope"`, "mcp:tools:calendar:write", "resource_metadata="} {
						if !strings.Contains(s.Challenge, part) {
							t.Errorf("the challenge %q lacks %s", s.Challenge, part)
						}
					}
				case "called":
					if s.Failed {
						t.Errorf("%s failed: %s", s.Tool, s.Text)
					}
				case "refreshed":
					if s.Times != 1 {
						t.Errorf("refreshed %d times for one call, want once", s.Times)
					}
				}
			}
			if strings.Join(got, ", ") != strings.Join(want, ", ") {
				t.Errorf("the session went\n%s\nwant the steps %v", strings.Join(trail, "\n"), want)
			}
			if ada.signedIn != 1 || ada.asked != 2 {
				t.Errorf("the person signed in %d times and was asked %d times, want 1 and 2", ada.signedIn, ada.asked)
			}
		})
	}
}
