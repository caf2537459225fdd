package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// TestStop asks a server to stop while requests are under way (HT-21, FL-02): each is
// answered whole, nothing new begins, and the process ends well.
func TestStop(t *testing.T) {
	const requests = 1000
	w := newProcess(t)
	var bot struct {
		ClientID     string `json:"client_id"`
		ClientSecret string `json:"client_secret"`
	}
	made := w.command(t, "", "client", "create", "--name", "Bot", "--grant", "client_credentials", "--scope",
		"mcp:tools:weather", "--resource", "https://mcp.example.com/mcp", "-o", "json")
	if err := json.Unmarshal([]byte(made), &bot); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	body := url.Values{"grant_type": {"client_credentials"}, "client_id": {bot.ClientID},
		"client_secret": {bot.ClientSecret}}.Encode()
	head := fmt.Sprintf("POST /oauth2/token HTTP/1.1\r\nHost: %s\r\nContent-Type: "+
		"application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", w.listen, len(body))

	var begun, ended sync.WaitGroup
	stopping := make(chan struct{})
	begun.Add(requests)
	for range requests {
		ended.Go(func() {
			conn, in, err := begin(t, w.listen, head)
			begun.Done()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			<-stopping
			if err := finish(conn, in, body); err != nil {
				t.Error(err)
			}
		})
	}
	begun.Wait()
	if err := w.server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for { // ends as soon as the server has heard of it
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.listen)
		if err != nil {
			break
		}
		conn.Close()
	}
	close(stopping)
	ended.Wait()
	if err := w.server.Wait(); err != nil {
		t.Errorf("cardea serve: %v", err)
	}
	events := w.command(t, "", "audit", "list", "--action", "token.request", "--outcome", "allowed", "--limit", "0",
		"-o", "json")
	var recorded []struct{}
	if err := json.Unmarshal([]byte(events), &recorded); err != nil || len(recorded) != requests {
		t.Errorf("%d tokens are recorded, want %d: %v", len(recorded), requests, err)
	}
}

// TestStopAtOnce asks a second time, while a client keeps the server waiting for a
// body that does not come.
func TestStopAtOnce(t *testing.T) {
	w := newProcess(t)
	w.start(t)
	head := fmt.Sprintf("POST /oauth2/token HTTP/1.1\r\nHost: %s\r\nContent-Type: "+
		"application/x-www-form-urlencoded\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n", w.listen)
	conn, _, err := begin(t, w.listen, head)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	waited := make(chan error, 1)
	go func() { waited <- w.server.Wait() }()
	for {
		select {
		case err := <-waited:
			var ended *exec.ExitError
			if !errors.As(err, &ended) || !ended.Sys().(syscall.WaitStatus).Signaled() {
				t.Errorf("cardea serve waited on: %v", err)
			}
			return
		default:
			_ = w.server.Process.Signal(syscall.SIGTERM) // the first is heard in a moment
			runtime.Gosched()
		}
	}
}

// begin sends the head of a request and returns when the server waits for its
// body.
func begin(t *testing.T, address, head string) (net.Conn, *bufio.Reader, error) {
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, head); err != nil {
		return nil, nil, err
	}
	line, err := in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
		return nil, nil, fmt.Errorf("instead of 100 (Continue): %q, %w", line, err)
	}
	_, err = in.ReadString('\n')
	return conn, in, err
}

// finish sends the body and checks the answer, down to the end of the connection.
func finish(conn net.Conn, in *bufio.Reader, body string) error {
	if _, err := io.WriteString(conn, body); err != nil {
		return err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if err != nil || answer.AccessToken == "" || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered with %s, %w", resp.Status, err)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return fmt.Errorf("after the answer: %w", err)
	}
	return nil
}
