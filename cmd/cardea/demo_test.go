package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/cardea-auth/cardea/internal/agent"
	"github.com/cardea-auth/cardea/internal/porttest"
)

func TestDemo(t *testing.T) {
	t.Run("an agent made with the official Go SDK calls every tool, stepping up once for each scope it lacks",
		func(t *testing.T) {
			d := startDemo(t, "--listen", "127.0.0.1:0", "--mcp-listen", "127.0.0.1:0")
			a := connect(t, d)
			tools, err := a.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, tool := range tools.Tools {
				names = append(names, tool.Name)
				if tool.Description == "" || tool.InputSchema == nil {
					t.Errorf("%s has no description or no input schema", tool.Name)
				}
			}
			slices.Sort(names)
			diff := cmp.Diff([]string{"create_event", "get_forecast", "list_events", "send_email"}, names)
			if diff != "" {
				t.Errorf("tools (-want +got):\n%s", diff)
			}
			for _, call := range []struct {
				tool      string
				arguments map[string]any
				consents  int // so far
			}{
				{"get_forecast", map[string]any{"city": "Rome"}, 1},
				{"list_events", map[string]any{"date": "2031-05-04"}, 1},
				{"create_event", map[string]any{"title": "Tea", "start": "2031-05-04T15:00"}, 2},
				{"send_email", map[string]any{"to": "ada@example.com", "subject": "Tea", "body": "At three?"}, 3},
				{"get_forecast", map[string]any{"city": "Lisbon", "days": 7}, 3},
			} {
				result, err := a.CallTool(t.Context(), &mcp.CallToolParams{Name: call.tool, Arguments: call.arguments})
				switch {
				case err != nil:
					t.Fatalf("%s: %v", call.tool, err)
				case result.IsError || result.StructuredContent == nil:
					t.Errorf("%s answers %v", call.tool, result.Content)
				case a.consents != call.consents:
					t.Errorf("after %s the person was asked %d times, want %d", call.tool, a.consents, call.consents)
				}
			}
		})

	t.Run("mail goes to a page of it", func(t *testing.T) {
		d := startDemo(t, "--listen", "127.0.0.1:0", "--mcp-listen", "127.0.0.1:0")
		connect(t, d)
		address := strings.TrimSuffix(d.mcpServer, "/mcp") + "/mail"
		page := func(host string) (int, string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = host
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(body)
		}
		await(t, "the page shows both letters", func() bool {
			status, body := page("")
			return status == http.StatusOK && strings.Contains(body, "A new device signed in") &&
				strings.Contains(body, "You connected ") && strings.Contains(body, "/account/undo?grant=")
		})
		if status, _ := page("evil.example"); status != http.StatusNotFound {
			t.Errorf("status %d for a page that names another host", status)
		}
	})

	t.Run("its data are thrown away", func(t *testing.T) {
		t.Setenv("TMPDIR", t.TempDir())
		d := startDemo(t, "--listen", "127.0.0.1:0", "--mcp-listen", "127.0.0.1:0")
		if n := len(files(t, os.TempDir())); n != 1 {
			t.Errorf("while it runs there are %d files in the folder for temporary files, want 1", n)
		}
		d.stop()
		if left := files(t, os.TempDir()); len(left) > 0 {
			t.Errorf("it leaves %s", left)
		}
	})

	t.Run("with --data-dir it finds what it made before", func(t *testing.T) {
		folder := t.TempDir()
		args := []string{"--listen", porttest.Address(t), "--mcp-listen", porttest.Address(t), "--data-dir", folder}
		first := startDemo(t, args...)
		first.stop()
		second := startDemo(t, args...)
		if second.password == first.password {
			t.Error("the password is the old one")
		}
		connect(t, second)
		// the MCP server's own, and the agent
		for noun, want := range map[string]int{"resource": 1, "user": 1, "client": 2} {
			var all []any
			if err := json.Unmarshal(command(t, noun, "list", "-o", "json", "--data-dir", folder), &all); err != nil {
				t.Fatal(err)
			}
			if len(all) != want {
				t.Errorf("cardea %s list has %d of them, want %d", noun, len(all), want)
			}
		}
	})

	t.Run("it keeps out of data that are not a demo's", func(t *testing.T) {
		folder := t.TempDir()
		command(t, "resource", "create", "--identifier", "https://mcp.example.com/mcp", "--name", "Real", "--scope",
			"mcp:tools:weather=Weather", "--data-dir", folder)
		var errs strings.Builder
		code := run(t.Context(), []string{"demo", "--script", "--data-dir", folder},
			&shell{out: io.Discard, errs: &errs})
		if code != exitFailed || !strings.Contains(errs.String(), "choose another one with --data-dir") {
			t.Errorf("exit %d, %s", code, errs.String())
		}
	})
}

// runningDemo is a `cardea demo`, as it introduced itself.
type runningDemo struct {
	issuer, mcpServer, email, password string

	stop func() // and wait until it has; it is stopped at the end of the test anyway
}

var introduced = regexp.MustCompile(`(?s)Authorization server +(\S+)\n +MCP server +(\S+)\n +Console +\S+/admin\n.*?Sign in as +(\S+) with password (\S+)\n.*Ctrl-C ends the demo`)

func startDemo(t *testing.T, args ...string) *runningDemo {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	errs, ended := &strings.Builder{}, make(chan int, 1)
	go func() {
		defer close(ended)
		ended <- run(ctx, append([]string{"demo"}, args...), &shell{out: in, errs: errs, environ: os.Environ()})
		in.Close()
	}()
	d := &runningDemo{stop: func() {
		cancel()
		if code, ok := <-ended; ok && code != exitFine {
			t.Errorf("cardea demo ends with %d: %s", code, errs)
		}
	}}
	go func() {
		<-ctx.Done()
		out.Close()
	}()
	t.Cleanup(func() { d.stop() })
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if match := introduced.FindStringSubmatch(said.String()); match != nil {
			d.issuer, d.mcpServer, d.email, d.password = match[1], match[2], match[3], match[4]
			return d
		}
	}
	t.Fatalf("cardea demo ended, or did not introduce itself:\n%s", said.String())
	return nil
}

// sdkAgent is an MCP client made with the official SDK.
type sdkAgent struct {
	*mcp.ClientSession
	consents int // how often its person was asked
}

func connect(t *testing.T, d *runningDemo) *sdkAgent {
	t.Helper()
	a := &sdkAgent{}
	ada, err := agent.NewPerson(d.email, d.password, d.issuer, agent.NewTranscript(io.Discard))
	if err != nil {
		t.Fatal(err)
	}
	metadata := &oauthex.ClientRegistrationMetadata{
		ClientName:              "SDK agent",
		RedirectURIs:            []string{agent.RedirectURI},
		GrantTypes:              []string{"authorization_code", "refresh_token"},
		TokenEndpointAuthMethod: "none",
	}
	handler, err := auth.NewAuthorizationCodeHandler(&auth.AuthorizationCodeHandlerConfig{
		RedirectURL:                     agent.RedirectURI,
		DynamicClientRegistrationConfig: &auth.DynamicClientRegistrationConfig{Metadata: metadata},
		AuthorizationCodeFetcher: func(
			ctx context.Context, args *auth.AuthorizationArgs,
		) (*auth.AuthorizationResult, error) {
			shown, err := ada.Open(ctx, args.URL)
			if err != nil {
				return nil, err
			}
			if _, err := shown.Form("password"); err == nil {
				if shown, err = ada.SignIn(ctx, shown); err != nil {
					return nil, err
				}
			}
			a.consents++
			if shown, _, err = ada.Allow(ctx, shown); err != nil {
				return nil, err
			}
			answer := shown.URL.Query()
			return &auth.AuthorizationResult{Code: answer.Get("code"), State: answer.Get("state"),
				Iss: answer.Get("iss")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "SDK agent", Version: "1.0.0"}, nil)
	a.ClientSession, err = client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: d.mcpServer, OAuthHandler: handler, HTTPClient: &http.Client{},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// command runs a cardea command that should work and returns what it prints.
func command(t *testing.T, args ...string) []byte {
	t.Helper()
	var out, errs strings.Builder
	if code := run(t.Context(), args, &shell{out: &out, errs: &errs}); code != exitFine {
		t.Fatalf("cardea %s ends with %d: %s", strings.Join(args, " "), code, &errs)
	}
	return []byte(out.String())
}

func files(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
