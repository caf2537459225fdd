//go:build unix

// Command agents is an agent that runs for days, in as many processes as there is work, with golang.org/x/oauth2. A
// person allows it once; all processes share the one refresh token, in a file.
//
//	agents login -issuer https://auth.example.com -client mcp_… -resource https://mcp.example.com/mcp -file token.json
//	agents run   -issuer … -client … -resource … -file token.json        in each process
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/oauth2"
)

// Shared is an oauth2.TokenSource for processes that share a token file.
//
// A refresh token is used once: its answer has the next one, and a second use counts as theft after a short
// grace. So only one process refreshes at a time, it looks first whether another has done so, and it writes the new
// token to disk before anybody uses it.
type Shared struct {
	Config   *oauth2.Config
	Resource string        // the MCP server (RFC 8707)
	File     string        // of the token; readable by its owner only
	Early    time.Duration // before it expires, the token is refreshed

	mu    sync.Mutex
	token *oauth2.Token // as this process last saw it
}

// Token returns a token that is good for a while. The error says what to do if a person has to allow the agent again.
func (s *Shared) Token() (*oauth2.Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.good(s.token) {
		return s.token, nil
	}
	lock, err := os.OpenFile(s.File+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = lock.Close() }() // which also unlocks, as the end of the process does
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(s.File)
	if err != nil {
		return nil, fmt.Errorf("%w; run agents login first", err)
	}
	stored := new(oauth2.Token)
	if err := json.Unmarshal(text, stored); err != nil {
		return nil, err
	}
	if s.good(stored) { // another process was first
		s.token = stored
		return stored, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	fresh, err := s.Config.TokenSource(ctx, &oauth2.Token{RefreshToken: stored.RefreshToken}).Token()
	var refused *oauth2.RetrieveError
	if errors.As(err, &refused) && refused.ErrorCode == "invalid_grant" {
		return nil, fmt.Errorf("the person has ended the access, or it is over: run agents login again (%s)",
			refused.ErrorDescription)
	}
	if err != nil {
		return nil, err // the issuer is away: the next call tries again, with the same refresh token
	}
	if err := save(s.File, fresh); err != nil {
		return nil, err
	}
	s.token = fresh
	return fresh, nil
}

func (s *Shared) good(t *oauth2.Token) bool {
	return t != nil && t.AccessToken != "" && time.Until(t.Expiry) > s.Early
}

// save replaces the token file as a whole, so that a crash leaves the old one or the new one.
func save(path string, t *oauth2.Token) error {
	text, err := json.Marshal(t)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	return err
}

// Login has a person allow the agent in a browser, and stores the token. open shows the address to the person.
func (s *Shared) Login(ctx context.Context, open func(address string)) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	config := *s.Config
	config.RedirectURL = "http://" + listener.Addr().String() + "/callback"
	verifier, state := oauth2.GenerateVerifier(), rand.Text()
	answers := make(chan *http.Request, 1)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/callback" && r.FormValue("state") == state {
				fmt.Fprintln(w, "Done. You can close this page.")
				select {
				case answers <- r:
				default:
				}
			}
		})}
	go server.Serve(listener)  //nolint:errcheck // ends with Shutdown
	defer server.Shutdown(ctx) //nolint:errcheck // nothing is lost
	open(config.AuthCodeURL(state, oauth2.S256ChallengeOption(verifier),
		oauth2.SetAuthURLParam("resource", s.Resource)))
	select {
	case r := <-answers:
		if refusal := r.FormValue("error"); refusal != "" {
			return fmt.Errorf("not allowed: %s %s", refusal, r.FormValue("error_description"))
		}
		token, err := config.Exchange(ctx, r.FormValue("code"), oauth2.VerifierOption(verifier),
			oauth2.SetAuthURLParam("resource", s.Resource))
		if err != nil {
			return err
		}
		return save(s.File, token)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call calls a tool of the MCP server. client adds the token, and refreshes it.
func call(ctx context.Context, client *http.Client, resource string) (string, error) {
	message := `{"jsonrpc":"2.0","id":1,"method":"tools/call",` +
		`"params":{"name":"get_forecast","arguments":{"city":"Oslo"}}}`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, resource, bytes.NewReader([]byte(message)))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	return string(answer), err
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: agents login|run -issuer URL -client ID -resource URL -file PATH")
		os.Exit(2)
	}
	flags := flag.NewFlagSet("agents", flag.ExitOnError)
	issuer, client := flags.String("issuer", "", "the authorization server"), flags.String("client", "", "client_id")
	s := &Shared{}
	flags.StringVar(&s.Resource, "resource", "", "the MCP server")
	flags.StringVar(&s.File, "file", "token.json", "file of the token")
	flags.DurationVar(&s.Early, "early", time.Minute, "how long before it expires the token is refreshed")
	every := flags.Duration("every", time.Minute, "how often the agent works")
	times := flags.Int("times", 0, "how often it works; 0: until it is stopped")
	_ = flags.Parse(os.Args[2:])
	s.Config = &oauth2.Config{ClientID: *client, Scopes: []string{"mcp:tools:weather", "offline_access"},
		Endpoint: oauth2.Endpoint{AuthURL: *issuer + "/oauth2/authorize", TokenURL: *issuer + "/oauth2/token",
			AuthStyle: oauth2.AuthStyleInParams}}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch os.Args[1] {
	case "login":
		err = s.Login(ctx, func(address string) { fmt.Println("Open this page:", address) })
	case "run":
		err = run(ctx, s, *every, *times)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agents:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s *Shared, every time.Duration, times int) error {
	client := &http.Client{Transport: &oauth2.Transport{Source: s}, Timeout: 30 * time.Second}
	for n := 0; times == 0 || n < times; n++ {
		answer, err := call(ctx, client, s.Resource)
		if err != nil {
			return err
		}
		fmt.Println(strings.TrimSpace(answer))
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}
