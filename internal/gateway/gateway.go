package gateway

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/scope"
)

// Options are what a configuration does not say. The zero Options are good.
type Options struct {
	// Logger gets a record of each call and of each fault. Nil means slog.Default().
	Logger *slog.Logger

	// Heartbeat is how often an idle stream gets a comment, and how often the token of the client that opened it is
	// checked again. Zero means 20 seconds.
	Heartbeat time.Duration

	// Patience is how long a client may take to send its message, or to take an event, and a program to read a message.
	// Zero means 30 seconds.
	Patience time.Duration

	// List lists the tools of a server, as its items of tools/list. The gateway calls it at the start, after a reload
	// and once an hour for servers with reviewed tools, so that what has changed is closed before a client lists it.
	// Nil means that only the lists that clients ask for show changes.
	List func(context.Context, *Server) ([][]byte, error)

	// Wrap returns a handler around the gateway, which may begin a span for each request. Nil means none.
	Wrap func(http.Handler) http.Handler
}

// Gateway is authorization in front of MCP servers. Make it with [New]; its methods may be called concurrently. It is a
// prometheus.Collector of its metrics.
type Gateway struct {
	log       *slog.Logger
	heartbeat time.Duration
	patience  time.Duration
	list      func(context.Context, *Server) ([][]byte, error)
	client    *http.Transport
	table     atomic.Pointer[table]
	announced sync.Map // by resource: the lists whose changes the server announces, as []string
	tasks     tasks
	metrics   *metrics
	wrap      func(http.Handler) http.Handler
	quit      chan struct{} // is closed when streams have to end
}

// table is a configuration in the form in which requests use it. Reload makes another.
type table struct {
	config    *Config
	seal      sealer
	routes    map[string]*route // by host and path
	wellKnown map[string]http.Handler
	identity  *identities
	ended     chan struct{} // is closed when another table has taken its place
}

// New returns a gateway for config. It sends no request: issuer and servers may start later.
func New(config *Config, options Options) (*Gateway, error) {
	g := &Gateway{log: options.Logger, heartbeat: cmp.Or(options.Heartbeat, 20*time.Second),
		patience: cmp.Or(options.Patience, usualPatience), list: options.List, metrics: newMetrics(),
		wrap: options.Wrap, quit: make(chan struct{})}
	if g.log == nil {
		g.log = slog.Default()
	}
	if g.wrap == nil {
		g.wrap = func(next http.Handler) http.Handler { return next }
	}
	g.client = Transport()
	t, err := g.newTable(config, nil)
	if err != nil {
		return nil, err
	}
	g.table.Store(t)
	return g, nil
}

// newTable returns the table of config. Guards and keys of an earlier table go on where they can.
func (g *Gateway) newTable(config *Config, earlier *table) (*table, error) {
	t := &table{config: config, routes: map[string]*route{}, wellKnown: map[string]http.Handler{},
		ended: make(chan struct{})}
	secret := ""
	if config.Client != nil {
		secret = config.Client.ClientSecret
	}
	if t.seal = newSealer(secret); earlier != nil && secret == "" {
		t.seal = earlier.seal
	}
	if t.identity = earlierIdentity(earlier, config); t.identity == nil || secret != "" {
		var err error
		if t.identity, err = newIdentities(config.Public, secret); err != nil {
			return nil, err
		}
	}
	guards := map[string][]*guard.Guard{} // by host
	for _, s := range config.Servers {
		protects, err := s.guard(config, g.log, s.events(config))
		if err != nil {
			t.close()
			return nil, fmt.Errorf("gateway: %s: %w", s.Name, err)
		}
		if s.reviewed != nil {
			s.seen = g.sightingsOf(s, earlier)
		}
		rt := &route{Server: s, gateway: g, table: t, guard: protects}
		g.metrics.of(s)
		rt.limit = func(next http.Handler) http.Handler { return next }
		if s.Calls.Requests > 0 {
			limits := guard.RateLimits{Default: s.Calls}
			if config.Limits != nil {
				limits.Shared = config.Limits.Spend
			}
			rt.limit = protects.LimitRate(limits)
		}
		if s.Command != nil {
			rt.children = g.childrenOf(s, earlier)
		}
		rt.handler = protects.Protect(http.HandlerFunc(rt.serve))
		u, _ := url.Parse(s.Resource) // guard.New has parsed it
		host := strings.ToLower(u.Host)
		t.routes[host+strings.TrimSuffix(u.EscapedPath(), "/")] = rt
		guards[host] = append(guards[host], protects)
	}
	for host, all := range guards {
		t.wellKnown[host] = guard.WellKnown(all...)
	}
	for _, rt := range t.routes {
		if rt.seen != nil {
			rt.seen.tell(func(tool, difference string) {
				_ = rt.guard.RecordToolDrift(context.Background(), tool, difference) // logs its error
			})
		}
	}
	return t, nil
}

// earlierIdentity returns the identities of an earlier table, or nil if there are none for config.
func earlierIdentity(earlier *table, config *Config) *identities {
	if earlier == nil || earlier.config.Public != config.Public {
		return nil
	}
	return earlier.identity
}

// guard returns the guard of s.
func (s *Server) guard(c *Config, log *slog.Logger, events guard.Events) (*guard.Guard, error) {
	known := s.known()
	if len(known) == 0 {
		known = nil
	}
	return guard.New(guard.Config{
		Issuer: c.Issuer, Resource: s.Resource, Name: s.Name, Introspection: s.Client, Logger: log,
		Scopes: known, DefaultScopes: scope.Of(s.Scopes...), Events: events,
	})
}

// events returns how the tool calls of s come into the audit log of the issuer. Each server has a spool of its own,
// named by its resource.
func (s *Server) events(c *Config) guard.Events {
	if c.Spool == "" || s.Client == nil {
		return guard.Events{}
	}
	sum := sha256.Sum256([]byte(s.Resource))
	return guard.Events{Spool: filepath.Join(c.Spool, hex.EncodeToString(sum[:8]))}
}

// close gives back what t and its guards have.
func (t *table) close() {
	if t.config.Limits != nil {
		t.config.Limits.Close()
	}
	for _, rt := range t.routes {
		if err := rt.guard.Close(); err != nil {
			rt.gateway.log.Error("gateway: the spool of tool calls cannot be closed", "server", rt.Name, "error", err)
		}
	}
}

// Reload makes config the configuration. Open streams go on; what they show, and all later calls, are judged by its
// rules. If config cannot be used, nothing changes. The gateway keeps config, so each call takes one of its own.
func (g *Gateway) Reload(config *Config) error {
	old := g.table.Load()
	t, err := g.newTable(config, old)
	if err != nil {
		return err
	}
	g.table.Store(t)
	close(old.ended)
	for key, rt := range old.routes {
		if rt.children != nil && (t.routes[key] == nil || t.routes[key].children != rt.children) {
			go rt.children.close()
		}
	}
	old.close()
	return nil
}

// Serve answers on listener until ctx ends. Then it lets answers under way finish for a few seconds.
func (g *Gateway) Serve(ctx context.Context, listener net.Listener) error {
	calls, endCalls := context.WithCancel(context.WithoutCancel(ctx))
	defer endCalls()
	server := &http.Server{
		Handler:           g.wrap(g),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	go adopt(calls)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(&watchedListener{Listener: listener, log: g.log}) }()
	if g.list != nil {
		go g.survey(calls)
	}
	select {
	case err := <-ended:
		return fmt.Errorf("gateway: %w", err)
	case <-ctx.Done():
	}
	close(g.quit)
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		endCalls()
		_ = server.Close()
	}
	var all sync.WaitGroup
	for _, rt := range g.table.Load().routes {
		if rt.children != nil {
			all.Go(rt.children.close)
		}
	}
	all.Wait()
	g.table.Load().close()
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// watchedListener is a listener that says when it can take no more clients, which net/http only tries again.
type watchedListener struct {
	net.Listener
	log    *slog.Logger
	silent time.Time // until when it has said so
}

// Accept waits for a client. One goroutine calls it.
func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if now := time.Now(); errors.Is(err, syscall.EMFILE) && now.After(l.silent) {
		l.silent = now.Add(time.Minute)
		l.log.Error("gateway: clients wait, because the gateway has as many files open as it may; raise the limit " +
			"(ulimit -n, or LimitNOFILE= under systemd)")
	}
	return conn, err
}

// ServeHTTP answers r: the metadata and health of the gateway itself, and what is for a server.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := g.table.Load()
	path := r.URL.EscapedPath()
	if path == "/healthz" || path == "/readyz" {
		g.health(w, r, t)
		return
	}
	host, known := t.host(r.Host)
	switch {
	case !known:
		fail(w, http.StatusForbidden, nil, http.StatusForbidden,
			"The gateway does not answer under this host name; use the one of public, and let proxies keep Host.")
		return
	case !t.welcomes(r, host):
		fail(w, http.StatusForbidden, nil, http.StatusForbidden,
			"Pages of this origin may not call this server; its operator can list it under origins.")
		return
	case path == "/.well-known/jwks" && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		t.identity.serve(w)
		return
	case strings.HasPrefix(path, "/.well-known/"):
		t.wellKnown[host].ServeHTTP(w, r)
		return
	}
	rt := t.routes[host+strings.TrimSuffix(path, "/")]
	if rt == nil || strings.HasSuffix(path, "//") {
		fail(w, http.StatusNotFound, nil, http.StatusNotFound, "There is no MCP server at this path.")
		return
	}
	g.metrics.count(rt, w, r)
}

// host returns the host of routes that a Host header means, and whether there is one. All names of the loopback address
// mean the same host, because clients of this machine use any; a name that only resolves to it does not (DNS
// rebinding).
func (t *table) host(header string) (host string, known bool) {
	header = strings.ToLower(header)
	if _, known := t.wellKnown[header]; known {
		return header, true
	}
	name, port := split(header)
	for host := range t.wellKnown {
		ours, ourPort := split(host)
		if port == ourPort && (name == ours || isLoopback(name) && isLoopback(ours)) {
			return host, true
		}
	}
	return "", false
}

// split returns the name and the port of a host. It leaves out the default ports of http and https.
func split(host string) (name, port string) {
	u := url.URL{Host: host}
	if port = u.Port(); port == "80" || port == "443" {
		port = ""
	}
	return u.Hostname(), port
}

// welcomes reports whether the page that sends r, if one does, may (MCP, Streamable HTTP, "Security Warning").
func (t *table) welcomes(r *http.Request, host string) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	if slices.Contains(t.config.Origins, "*") || slices.Contains(t.config.Origins, origins[0]) ||
		origins[0] == t.config.Public {
		return true
	}
	u, err := url.Parse(origins[0])
	if err != nil || u.Host == "" {
		return false
	}
	name, _ := split(strings.ToLower(u.Host))
	ours, _ := split(host)
	return strings.EqualFold(u.Host, host) || isLoopback(name) && isLoopback(ours)
}

// fail answers with an error of JSON-RPC. Codes of the gateway's own are outside the range that JSON-RPC keeps for
// itself: they are the status.
func fail(w http.ResponseWriter, status int, id []byte, code int, message string) {
	failWith(w, status, id, code, message, nil)
}

func failWith(w http.ResponseWriter, status int, id []byte, code int, message string, data any) {
	type problem struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    any    `json:"data,omitempty"`
	}
	answer(w, status, struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"`
		Error   problem         `json:"error"`
	}{"2.0", id, problem{code, message, data}})
}

func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // cannot happen: everything written here marshals
		status, body = http.StatusInternalServerError, []byte(`{}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // fails only if the client has gone
}
