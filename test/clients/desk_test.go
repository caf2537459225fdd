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

// deskVariable tells this test binary that a client runs it as the browser, and where the desk is.
const deskVariable = "CLIENTS_TEST_DESK"

// A desk is where a person sits whose clients open a browser: what a client hands to the browser, the person visits, and
// follows the answer to where the client waits for it.
type desk struct {
	who    *person
	server *httptest.Server
	waits  context.Context // of the clients: over when the person cannot do what a client wants

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

// visit does what the person does in the browser.
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

// reach opens url as soon as somebody listens there: mcp-remote does only some time after it has opened the browser.
func reach(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
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

// env makes the program that `open` of npm starts (xdg-open, which asks BROWSER) this test binary.
func (d *desk) env() []string {
	return []string{"BROWSER=" + os.Args[0], deskVariable + "=" + d.server.URL, "DISPLAY="}
}

// browse is what the test binary does as a browser: it tells the desk what was opened.
func browse(desk string) {
	resp, err := http.Post(desk, "text/plain", strings.NewReader(os.Args[len(os.Args)-1]))
	if err == nil {
		resp.Body.Close()
	}
}

// requests are the authorization requests that clients opened so far.
func (d *desk) requests() []url.Values {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened
}
