package clients_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// deskVariable tells this test binary that a client has started it as a browser. Its value is the address of the desk.
const deskVariable = "CLIENTS_TEST_DESK"

// A desk acts as a person whose clients open a browser: it visits each URL that a client opens, and follows the
// redirect to the address at which the client listens.
type desk struct {
	who    *person
	server *httptest.Server
	waits  context.Context // context of the clients; it ends if the person cannot do what a client requests

	mu     sync.Mutex
	opened []url.Values // the authorization requests
}

func newDesk(t *testing.T, who *person) *desk {
	t.Helper()
	waits, fail := context.WithCancelCause(t.Context())
	d := &desk{who: who, waits: waits}
	d.server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		raw, err := io.ReadAll(r.Body)
		if err == nil {
			err = d.visit(r.Context(), string(raw))
		}
		if err != nil {
			t.Error(err)
			fail(err)
		}
	}))
	t.Cleanup(d.server.Close)
	return d
}

// visit opens a URL as the person would in the browser.
func (d *desk) visit(ctx context.Context, address string) error {
	opened, err := url.Parse(address)
	if err != nil {
		return err
	}
	d.opened = append(d.opened, opened.Query())
	back, err := d.who.Visit(address)
	if err != nil {
		return err
	}
	return reach(ctx, back)
}

// reach opens url and retries until a program listens there, because mcp-remote opens the browser before it listens.
func reach(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			return resp.Body.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// env returns the environment in which npm's `open` (through xdg-open and BROWSER) starts this test binary.
func (d *desk) env() []string {
	return []string{"BROWSER=" + os.Args[0], deskVariable + "=" + d.server.URL, "DISPLAY="}
}

// browse is the main function of the test binary as a browser: it sends the opened URL to the desk.
func browse(desk string) {
	resp, err := http.Post(desk, "text/plain", strings.NewReader(os.Args[len(os.Args)-1]))
	if err == nil {
		resp.Body.Close()
	}
}

// requests returns the authorization requests that clients have opened so far.
func (d *desk) requests() []url.Values {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened
}
