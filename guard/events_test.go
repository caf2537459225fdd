package guard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
)

// spooling is an edit that sends tool calls to the issuer.
func spooling(w *guardtest.Issuer, dir string) func(*guard.Config) {
	return func(c *guard.Config) {
		c.Issuer = w.URL
		c.Events = guard.Events{Spool: dir,
			Credentials: &guard.Credentials{ClientID: w.ClientID, ClientSecret: w.ClientSecret}}
	}
}

// calling returns a context in which a token that the guard verified calls.
func calling(t testing.TB, w *world, g *guard.Guard, claims guardtest.Claims) context.Context {
	t.Helper()
	claims.Audience = resource
	token, err := g.Verify(t.Context(), w.Token(claims))
	if err != nil {
		t.Fatal(err)
	}
	return guard.NewContext(t.Context(), guard.Caller{Token: token})
}

// arrive waits until the issuer has n tool calls, and returns them.
func arrive(t testing.TB, w *guardtest.Issuer, n int) []guardtest.ToolCall {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		calls := w.ToolCalls()
		if len(calls) >= n {
			return calls
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d tool calls arrived, want %d", len(calls), n)
		}
	}
}

// Tool calls that a guard records or refuses come into the audit log of the issuer.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	g := newWorld(t, spooling(w.Issuer, t.TempDir()), func(c *guard.Config) { c.Now = w.Now }).Guard
	t.Cleanup(func() { _ = g.Close() })
	ctx := calling(t, w, g,
		guardtest.Claims{Subject: "usr_1", ClientID: "mcp_1", ID: "grt_1.abc", Scope: "mcp:tools:weather"})
	g.LogToolCall(ctx, "get_forecast", nil)
	g.LogToolCall(ctx, "get_forecast", errors.New("the secret argument is wrong"))
	g.LogToolCall(ctx, "send_email", g.CheckScope(ctx, "mcp:tools:email:send"))
	if err := g.RecordToolCall(ctx, guard.ToolCall{Tool: "a\nb" + strings.Repeat("x", 1000), Outcome: "allowed",
		Duration: 1500 * time.Microsecond}); err != nil {
		t.Error(err)
	}
	handler := g.Protect(g.RequireToolScopes(guard.ToolScopes{"send_email": {"mcp:tools:email:send"}})(http.NotFoundHandler()))
	token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
	if resp := ask(handler, token, func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(call("send_email")))
	}); resp.Code != 403 {
		t.Errorf("status %d", resp.Code)
	}
	var got []string
	for _, c := range arrive(t, w.Issuer, 5) {
		if c.Action != "tool.call" || c.ID == "" || c.Time != w.Now().UTC().Format(time.RFC3339Nano) ||
			len(c.Tool) > 256 {
			t.Errorf("%+v", c)
		}
		got = append(got,
			fmt.Sprint(c.Tool[:3], " ", c.Outcome, " ", c.GrantID, " ", c.ClientID, " ", c.Duration, " ", c.Reason))
	}
	want := []string{
		"get allowed grt_1 mcp_1 0 ", "get failed grt_1 mcp_1 0 ",
		"sen refused grt_1 mcp_1 0 This needs the scope mcp:tools:email:send.", "a?b allowed grt_1 mcp_1 1.5 ",
		"sen refused  test-client 0 This needs the scope mcp:tools:email:send.",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the calls are\n%s", strings.Join(got, "\n"))
	}
	g.LogToolCall(t.Context(), "x", nil) // nobody calls
}

// Events wait while the issuer is away, in order, and are sent by the next guard too.
func TestEventsWait(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	g := newWorld(t, spooling(w.Issuer, dir), func(c *guard.Config) { c.Now = w.Now }).Guard
	ctx := calling(t, w, g, guardtest.Claims{})
	w.SetDown(true)
	var all sync.WaitGroup
	for n := range 300 {
		all.Go(func() {
			if err := g.RecordToolCall(ctx,
				guard.ToolCall{Tool: fmt.Sprint("tool", n), Outcome: "allowed"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := guard.New(guard.Config{Issuer: w.URL, Resource: resource + "/other", Events: guard.Events{Spool: dir,
		Credentials: &guard.Credentials{ClientID: "x", ClientSecret: "y"}}}); err == nil ||
		!strings.Contains(err.Error(), "give each") {
		t.Errorf("a guard of another resource shares the spool: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if err := g.RecordToolCall(ctx, guard.ToolCall{Tool: "late", Outcome: "allowed"}); err == nil {
		t.Error("a closed guard records")
	}
	// A crash may leave half a line, which nobody was told to be there.
	names, err := filepath.Glob(filepath.Join(dir, "*.events"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%v %v", names, err)
	}
	file, err := os.OpenFile(names[len(names)-1], os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteString(`{"id":"half`)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	if n := len(w.ToolCalls()); n != 0 {
		t.Fatalf("%d calls arrived", n)
	}
	w.SetDown(false)
	next := newWorld(t, spooling(w.Issuer, dir), func(c *guard.Config) { c.Now = w.Now }).Guard
	t.Cleanup(func() { _ = next.Close() })
	if err := next.RecordToolCall(ctx, guard.ToolCall{Tool: "last", Outcome: "allowed"}); err != nil {
		t.Error(err)
	}
	tools := map[string]bool{}
	for _, c := range arrive(t, w.Issuer, 301) {
		tools[c.Tool] = true
	}
	if len(tools) != 301 {
		t.Errorf("%d tools arrived", len(tools))
	}
	if n := w.Fetches("/oauth2/events"); n > 20 {
		t.Errorf("%d requests for 301 events", n)
	}
}

// A full spool loses new events, keeps those of before, and takes new ones when those have gone.
func TestEventsAreBounded(t *testing.T) {
	w := newWorld(t)
	g := newWorld(t, spooling(w.Issuer, t.TempDir()), func(c *guard.Config) {
		c.Now, c.Events.MaxBytes = w.Now, 4000
	}).Guard
	t.Cleanup(func() { _ = g.Close() })
	ctx := calling(t, w, g, guardtest.Claims{})
	w.SetDown(true)
	kept := 0
	for n := range 100 {
		if g.RecordToolCall(ctx, guard.ToolCall{Tool: fmt.Sprint(n), Outcome: "allowed"}) == nil {
			if kept++; kept != n+1 {
				t.Fatalf("the event %d was kept after one was lost", n)
			}
		}
	}
	if kept < 5 || kept > 30 {
		t.Errorf("%d events are kept", kept)
	}
	w.SetDown(false)
	arrive(t, w.Issuer, kept)
	for deadline := time.Now().Add(time.Minute); g.RecordToolCall(ctx,
		guard.ToolCall{Tool: "again", Outcome: "allowed"}) != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the spool stays full")
		}
	}
	arrive(t, w.Issuer, kept+1)
}

// An event that the issuer refuses does not hold up the others.
func TestEventsThatAreRefused(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	bad := filepath.Join(dir, "00000000000000000001-x.events")
	if err := os.WriteFile(bad, []byte(`{"id":"good-one"}`+"\n"+`{"id":"bad-one","unknown":1}`+"\nnonsense\n"+`{"id":"good-two"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := newWorld(t, spooling(w.Issuer, dir), func(c *guard.Config) { c.Now = w.Now }).Guard
	t.Cleanup(func() { _ = g.Close() })
	calls := arrive(t, w.Issuer, 2)
	if len(calls) != 2 || calls[0].ID != "good-one" || calls[1].ID != "good-two" {
		t.Errorf("the calls are %+v", calls)
	}
}

// A process that is killed loses no event that it was told to be recorded.
func TestEventsAfterKill(t *testing.T) {
	if dir := os.Getenv("GUARD_TEST_SPOOL"); dir != "" {
		recordForEver(t, dir)
	}
	w, dir := newWorld(t), t.TempDir()
	var acknowledged []string
	for round := range 3 {
		w.SetDown(round == 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		child := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestEventsAfterKill$") //nolint:gosec // this test itself
		child.Env = append(os.Environ(), "GUARD_TEST_SPOOL="+dir, "GUARD_TEST_ISSUER="+w.URL,
			"GUARD_TEST_SECRET="+w.ClientSecret, "GUARD_TEST_TOKEN="+w.Token(guardtest.Claims{Audience: resource}))
		out, err := child.StdoutPipe()
		if err == nil {
			err = child.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 0, 1<<16)
		for strings.Count(string(text), "\n") < 50 {
			part := make([]byte, 4096)
			n, err := out.Read(part)
			if text = append(text, part[:n]...); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
		}
		_ = child.Process.Kill()
		_ = child.Wait()
		cancel()
		lines := strings.Split(string(text), "\n")
		acknowledged = append(acknowledged, lines[:len(lines)-1]...) // the last may be cut off
	}
	g := newWorld(t, spooling(w.Issuer, dir), func(c *guard.Config) { c.Now = w.Now }).Guard
	t.Cleanup(func() { _ = g.Close() })
	seen := map[string]int{}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		clear(seen)
		for _, c := range w.ToolCalls() {
			seen[c.Tool]++
		}
		missing := 0
		for _, tool := range acknowledged {
			if seen[tool] != 1 {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d acknowledged events are missing, or there twice", missing, len(acknowledged))
		}
	}
}

// recordForEver records events and prints each when it is recorded.
func recordForEver(t *testing.T, dir string) {
	issuer := &guardtest.Issuer{URL: os.Getenv("GUARD_TEST_ISSUER"), ClientID: "test-client",
		ClientSecret: os.Getenv("GUARD_TEST_SECRET")}
	config := guard.Config{Resource: resource, Logger: slog.New(slog.DiscardHandler)}
	spooling(issuer, dir)(&config)
	g, err := guard.New(config)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	ctx := guard.NewContext(t.Context(),
		guard.Caller{Token: &guard.Token{Subject: "usr_1", ClientID: "mcp_1", ID: "x"}})
	for n := 0; ; n++ {
		tool := fmt.Sprintf("%d-%d", os.Getpid(), n)
		if err := g.RecordToolCall(ctx, guard.ToolCall{Tool: tool, Outcome: "allowed"}); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(tool)
	}
}
