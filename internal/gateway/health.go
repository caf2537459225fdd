package gateway

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	lookEvery = 5 * time.Second // at a server, however often somebody asks
	lookFor   = 2 * time.Second
)

// serverHealth is what /readyz says about a server behind the gateway.
type serverHealth struct {
	Status   string `json:"status"` // "healthy" or "unhealthy"
	Reason   string `json:"reason,omitempty"`
	Programs *int   `json:"programs,omitempty"` // of a command: how many run
}

// looks is what the gateway saw when it last looked at a server.
type looks struct {
	mu     sync.Mutex
	at     time.Time
	reason string // "": it can be reached
}

// health answers /healthz and /readyz. The latter reports whether tokens can be verified and servers can be reached.
// Its status is 503 only if no token can be verified, because one server that fails must not end the others. Only a
// request to an IP address, a loopback name or a host name of the gateway gets the details, so that a web page whose
// own name resolves to this machine (DNS rebinding) cannot read the names of the servers.
func (g *Gateway) health(w http.ResponseWriter, r *http.Request, t *table) {
	if r.URL.Path == "/healthz" {
		answer(w, http.StatusOK, map[string]string{"status": "healthy"})
		return
	}
	status, report := http.StatusOK, map[string]any{}
	for _, rt := range t.routes { // all have the same issuer
		status, report = issuerHealth(rt, r)
		break
	}
	servers := map[string]serverHealth{}
	for rt, seen := range g.lookAll(r.Context(), t) {
		servers[rt.Name] = seen
		if seen.Status != "healthy" && report["status"] == "healthy" {
			report["status"] = "degraded"
		}
	}
	report["servers"] = servers
	if _, known := t.host(r.Host); !known && !hasAddress(r.Host) {
		report = map[string]any{"status": report["status"]}
	}
	answer(w, status, report)
}

// hasAddress reports whether a Host header has an address, or a name of the loopback address, which lead to no other
// machine than they say.
func hasAddress(header string) bool {
	name, _ := split(strings.ToLower(header))
	_, err := netip.ParseAddr(name)
	return err == nil || isLoopback(name)
}

// lookAll returns the health of each server, all looked at at once.
func (g *Gateway) lookAll(ctx context.Context, t *table) map[*route]serverHealth {
	servers := map[*route]serverHealth{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, rt := range t.routes {
		all.Go(func() {
			seen := g.look(ctx, rt)
			mu.Lock()
			defer mu.Unlock()
			servers[rt] = seen
		})
	}
	all.Wait()
	return servers
}

// issuerHealth returns the answer of the guard of a route about its issuer.
func issuerHealth(rt *route, r *http.Request) (status int, report map[string]any) {
	var kept keeper
	rt.guard.Health().ServeHTTP(&kept, r)
	if json.Unmarshal(kept.body, &report) != nil || report == nil {
		report = map[string]any{}
	}
	return kept.status, report
}

// keeper is an http.ResponseWriter that keeps the response.
type keeper struct {
	header http.Header
	status int
	body   []byte
}

func (k *keeper) Header() http.Header {
	if k.header == nil {
		k.header = http.Header{}
	}
	return k.header
}

func (k *keeper) WriteHeader(status int) { k.status = status }

func (k *keeper) Write(b []byte) (int, error) {
	k.body = append(k.body, b...)
	return len(b), nil
}

// look returns the health of a server: whether its host takes connections, or whether its program runs.
func (g *Gateway) look(ctx context.Context, rt *route) serverHealth {
	if rt.Command != nil {
		return rt.children.health()
	}
	rt.looks.mu.Lock()
	defer rt.looks.mu.Unlock()
	if time.Since(rt.looks.at) >= lookEvery {
		rt.looks.reason = ""
		ctx, cancel := context.WithTimeout(ctx, lookFor)
		defer cancel()
		conn, err := dial(ctx, "tcp", hostPort(rt.Upstream))
		if err != nil {
			rt.looks.reason = "it cannot be reached"
			g.log.WarnContext(ctx, "gateway: the server cannot be reached", "server", rt.Name, "error", err)
		} else {
			_ = conn.Close()
		}
		rt.looks.at = time.Now()
	}
	if rt.looks.reason != "" {
		return serverHealth{Status: "unhealthy", Reason: rt.looks.reason}
	}
	return serverHealth{Status: "healthy"}
}

// hostPort returns the host of a URL with its port.
func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// health returns the health of a server that is a command. One that nobody uses has no program, and is healthy.
func (cs *children) health() serverHealth {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	n := len(cs.sessions)
	if time.Now().Before(cs.notUntil) {
		return serverHealth{Status: "unhealthy", Reason: "its program ended by itself and starts again later",
			Programs: &n}
	}
	return serverHealth{Status: "healthy", Programs: &n}
}
