package clients_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A step is a line that steps.mjs prints.
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

// An agent is a running program that prints its steps with steps.mjs.
type agent struct {
	t         *testing.T
	cmd       *exec.Cmd
	in        io.WriteCloser
	out       *bufio.Scanner
	trail     []string
	complaint strings.Builder
}

// startAgent starts a session with an SDK; session.mjs documents the arguments.
func startAgent(t *testing.T, version string, args ...string) *agent {
	t.Helper()
	return startProgram(t, nil, "typescript-"+version+".mjs", args...)
}

// startProgram starts a script that prints its steps with steps.mjs.
func startProgram(t *testing.T, env []string, script string, args ...string) *agent {
	t.Helper()
	a := &agent{t: t, cmd: node(t.Context(), t, script, args...)}
	a.cmd.Env = environ(env...)
	a.cmd.Stderr = &a.complaint
	var err error
	if a.in, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.out = bufio.NewScanner(out)
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return a
}

// next returns the next step, or false if the agent has ended.
func (a *agent) next() (s step, ok bool) {
	for a.out.Scan() {
		a.trail = append(a.trail, a.out.Text())
		if err := json.Unmarshal(a.out.Bytes(), &s); err != nil {
			a.t.Errorf("the driver printed %q", a.out.Text())
			continue
		}
		return s, true
	}
	return step{}, false
}

// answer sends the agent the line for which it waits.
func (a *agent) answer(line string) {
	fmt.Fprintln(a.in, line)
}

// session lets the person visit each authorization URL until the agent ends. It returns the agent's steps and its
// output.
func (a *agent) session(who *person) (steps []step, trail string) {
	a.t.Helper()
	for s, ok := a.next(); ok; s, ok = a.next() {
		steps = append(steps, s)
		if s.Step != "authorize" {
			continue
		}
		back, err := who.Visit(s.URL)
		if err != nil {
			a.t.Error(err)
			a.in.Close()
			continue
		}
		a.answer(back)
	}
	trail = strings.Join(a.trail, "\n")
	if err := a.cmd.Wait(); err != nil {
		a.t.Fatalf("%v after\n%s\n%s", err, trail, a.complaint.String())
	}
	return steps, trail
}

// The same session with both official TypeScript SDKs: discovery, registration, PKCE, sign-in, consent, a tool call,
// step-up for a second tool, refresh.
func TestTypeScriptSDK(t *testing.T) {
	d := startDemo(t)
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) { playSession(t, d, version) })
	}
}

// The same through cardea gateway, in front of a server that knows nothing of authorization.
func TestTypeScriptSDKAtGateway(t *testing.T) {
	d := runDemo(t, nil, "--listen", "127.0.0.1:0", "--gateway")
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) { playSession(t, d, version) })
	}
}

// playSession plays the complete session of an agent; session.mjs documents the arguments.
func playSession(t *testing.T, d *demo, version string, args ...string) {
	t.Helper()
	ada := newPerson(t, d.Email, d.Password)
	steps, trail := startAgent(t, version, append([]string{d.MCP}, args...)...).session(ada)
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
			for _, part := range []string{
				`error="insufficient_scope"`, "mcp:tools:calendar:write", "resource_metadata=",
			} {
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
		t.Errorf("the session went\n%s\nwant the steps %v", trail, want)
	}
	if ada.signedIn != 1 || ada.asked != 2 {
		t.Errorf("the person signed in %d times and was asked %d times, want 1 and 2", ada.signedIn, ada.asked)
	}
}

// Five processes refresh with the same refresh token at the same time, and one of them is killed before it gets its
// response. The others get tokens that work and can refresh again. A process that starts with the tokens of the killed
// one can refresh too, and the grant is not revoked.
func TestTypeScriptSDKProcessesShareRefreshToken(t *testing.T) {
	d := startDemo(t)
	for _, version := range []string{"v1", "v2"} {
		t.Run(version, func(t *testing.T) {
			ada := newPerson(t, d.Email, d.Password)
			file := filepath.Join(t.TempDir(), "tokens.json")
			steps, _ := startAgent(t, version, d.MCP, "--keep", file).session(ada)
			client := steps[0].ClientID

			var agents []*agent
			for range 4 {
				agents = append(agents, startAgent(t, version, d.MCP, "--share", file))
			}
			dying := startAgent(t, version, d.MCP, "--share", file, "--die")
			refreshTogether(t, append(agents, dying))
			if s, ok := dying.next(); ok {
				t.Errorf("the process that was to die lives on: %+v", s)
			}
			_ = dying.cmd.Wait() // it was killed
			each(agents, func(a *agent) { expect(a, "tokens", "called") })

			again := startAgent(t, version, d.MCP, "--share", file)
			refreshTogether(t, []*agent{again})
			expect(again, "tokens", "called")

			agents = append(agents, again)
			refreshTogether(t, agents)
			each(agents, func(a *agent) {
				expect(a, "tokens", "called")
				if s, ok := a.next(); ok {
					t.Errorf("the agent goes on after its last call: %+v", s)
				}
				if err := a.cmd.Wait(); err != nil {
					t.Errorf("%v after\n%s\n%s", err, strings.Join(a.trail, "\n"), a.complaint.String())
				}
			})
			if live := d.liveGrants(t, client); live != 1 {
				t.Errorf("the client has %d grants that live, want the one it began with", live)
			}
			if ada.asked != 1 {
				t.Errorf("the person was asked %d times, want once", ada.asked)
			}
		})
	}
}

// refreshTogether waits until every agent is about to refresh, and then lets all of them continue.
func refreshTogether(t *testing.T, agents []*agent) {
	t.Helper()
	each(agents, func(a *agent) { expect(a, "refreshing") })
	for _, a := range agents {
		a.answer("go")
	}
}

// expect reads the next steps and fails the test unless they have the given names and no tool call failed.
func expect(a *agent, steps ...string) {
	a.t.Helper()
	for _, want := range steps {
		if got, ok := a.next(); !ok || got.Step != want || got.Failed {
			a.t.Errorf("the agent's step is %+v, want %q, after\n%s\n%s", got, want, strings.Join(a.trail, "\n"),
				a.complaint.String())
			_ = a.cmd.Process.Kill() // it would wait for the next line
			return
		}
	}
}

// each calls do with every agent concurrently.
func each(agents []*agent, do func(*agent)) {
	var wg sync.WaitGroup
	for _, a := range agents {
		wg.Go(func() { do(a) })
	}
	wg.Wait()
}
