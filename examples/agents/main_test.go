//go:build unix

package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
)

// Processes that share a token file refresh one after the other: no refresh token is used twice, which the issuer here
// refuses at once.
func TestProcessesShareARefreshToken(t *testing.T) {
	issuer := guardtest.NewIssuer()
	t.Cleanup(issuer.Close)
	var calls atomic.Int64
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	resource := server.URL + "/mcp"
	g, err := guard.New(guard.Config{Issuer: issuer.URL, Resource: resource})
	if err != nil {
		t.Fatal(err)
	}
	mux.Handle("/mcp", g.Protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	})))
	s := &Shared{Resource: resource, File: filepath.Join(t.TempDir(), "token.json"), Config: &oauth2.Config{
		ClientID: issuer.ClientID, Scopes: []string{"mcp:tools:weather"}, Endpoint: oauth2.Endpoint{
			AuthURL: issuer.URL + "/oauth2/authorize", TokenURL: issuer.URL + "/oauth2/token",
			AuthStyle: oauth2.AuthStyleInParams}}}
	if err := s.Login(t.Context(), func(address string) {
		go func() { // the person, who consents to everything
			resp, err := http.Get(address)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
	}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(s.File); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token file: %v %v", info, err)
	}
	before := issuer.Fetches("/oauth2/token")
	const processes, times = 4, 5
	var all sync.WaitGroup
	for range processes {
		all.Go(func() {
			c := exec.CommandContext(t.Context(), os.Args[0], "run", "-issuer", issuer.URL, "-client", issuer.ClientID,
				"-resource", resource,
				"-file", s.File, "-every", "1ms", "-times", fmt.Sprint(times), "-early", "1h") // so that each call refreshes
			c.Env = append(os.Environ(), "AGENTS_TEST_CHILD=1")
			if out, err := c.CombinedOutput(); err != nil || strings.Count(string(out), "result") != times {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	all.Wait()
	if calls.Load() != processes*times || issuer.Fetches("/oauth2/token")-before != processes*times {
		t.Errorf("%d calls, %d refreshes", calls.Load(), issuer.Fetches("/oauth2/token")-before)
	}

	// With time left, no process asks the issuer.
	before = issuer.Fetches("/oauth2/token")
	for range 3 {
		if _, err := (&Shared{Resource: resource, File: s.File, Config: s.Config}).Token(); err != nil {
			t.Fatal(err)
		}
	}
	if n := issuer.Fetches("/oauth2/token"); n != before {
		t.Errorf("%d refreshes of a token that is good", n-before)
	}
}

// TestMain lets the test run this program, as which it starts itself.
func TestMain(m *testing.M) {
	if os.Getenv("AGENTS_TEST_CHILD") != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}
