package observe

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/trace"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/server"
)

// Metrics are what Prometheus reads. No label has a value that a stranger chooses, or that names a person or a client.
// Make them with NewMetrics; their methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec   // by route, method and status
	durations *prometheus.HistogramVec // by route and method
	grants    *prometheus.HistogramVec // durations of token requests by grant type
	events    *prometheus.CounterVec   // by action, outcome and reason
	tokens    *prometheus.CounterVec   // by grant type, outcome and reason
	tools     *prometheus.CounterVec   // tool calls by outcome
	limited   prometheus.Counter       // refusals that were only counted
	actions   names
	reasons   names
}

// names bounds the values of a label. Those that come after the first 100 are "other".
type names struct {
	mu    sync.Mutex
	known map[string]bool
}

func (n *names) bound(name string) string {
	const most = 100
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.known[name]:
		return name
	case len(n.known) >= most:
		return "other"
	case n.known == nil:
		n.known = map[string]bool{}
	}
	n.known[name] = true
	return name
}

// buckets are the bounds of the durations of requests, in seconds.
var buckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// NewMetrics returns metrics of the process, which is of a version of the program. database is "sqlite" or
// "postgresql", and "none" if the process has none.
func NewMetrics(version, database string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "cardea_build_info",
		Help: "The version that runs; its value is 1."}, []string{"version", "database"})
	build.WithLabelValues(version, database).Set(1)
	m.Register(build, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Register adds the metrics of other packages.
func (m *Metrics) Register(all ...prometheus.Collector) { m.registry.MustRegister(all...) }

// Server adds the metrics of a server. It calls state at each scrape, and the functions that it returns count what the
// server does.
func (m *Metrics) Server(state func(context.Context) server.State) server.Watcher {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cardea_" + name, Help: help}, labels)
		m.Register(c)
		return c
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cardea_" + name, Help: help, Buckets: buckets},
			labels)
		m.Register(h)
		return h
	}
	m.requests = vec("http_requests_total", "Requests by route, method and status.", "route", "method", "status")
	m.durations = histogram("http_request_duration_seconds", "How long requests took, by route and method.", "route",
		"method")
	m.grants = histogram("token_request_duration_seconds", "How long token requests took, by grant type.", "grant_type")
	m.events = vec("events_total", "Decisions in the audit log, by action, outcome and reason.", "action", "outcome",
		"reason")
	m.tokens = vec("token_requests_total", "Token requests by grant type, outcome and reason.", "grant_type", "outcome",
		"reason")
	m.tools = vec("tool_calls_total", "Tool calls that guards and gateways reported, by outcome.", "outcome")
	m.limited = prometheus.NewCounter(prometheus.CounterOpts{Name: "cardea_refusals_not_recorded_total",
		Help: "Refusals that the audit log only has the number of, because there were too many."})
	m.Register(m.limited, gauges(state))
	// What is counted is there from the beginning, so that a rate sees the first.
	for _, grantType := range oauth.GrantTypes() {
		m.tokens.WithLabelValues(string(grantType), allowed, "")
		m.grants.WithLabelValues(string(grantType))
	}
	for _, outcome := range []string{allowed, refused, "failed"} {
		m.tools.WithLabelValues(outcome)
	}
	m.events.WithLabelValues("token.reuse", refused, string(oauth.InvalidGrant))
	m.events.WithLabelValues("login.sign_in", allowed, "")
	return server.Watcher{Request: m.request, Event: m.event}
}

// request counts a response, as server.Watcher.Request says. The exemplars of its duration have the id that is in the
// log and in the audit events, and the trace if the request is traced.
func (m *Metrics) request(r *http.Request, route, kind string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	if status == 0 {
		status = http.StatusOK // which net/http sends
	}
	method := methodOf(r)
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	exemplar := prometheus.Labels{"request_id": audit.RequestFrom(r.Context()).ID}
	if span := trace.SpanContextFromContext(r.Context()); span.IsSampled() {
		exemplar["trace_id"] = span.TraceID().String()
	}
	observe := func(in prometheus.Observer) {
		in.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), exemplar) // as all histograms are
	}
	observe(m.durations.WithLabelValues(route, method))
	if kind != "" {
		observe(m.grants.WithLabelValues(kind)) // only the token endpoint has kinds
	}
}

// methods are the methods that are told apart.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// methodOf returns the method of r, or "other", because a stranger may send any.
func methodOf(r *http.Request) string {
	if slices.Contains(methods, r.Method) {
		return r.Method
	}
	return "other"
}

// The outcomes of events, and the action of a token request.
const allowed, refused, issued = "allowed", "refused", "token.request"

// event counts an event of the audit log, as server.Watcher.Event says.
func (m *Metrics) event(action, outcome, reason string, detail map[string]string) {
	switch {
	case strings.HasPrefix(action, "limit."):
		if n, err := strconv.Atoi(detail["refused"]); err == nil && n > 0 {
			m.limited.Add(float64(n))
		}
		return
	case action == "tool.call": // its reason is what the reporter says
		m.tools.WithLabelValues(outcome).Inc()
		return
	}
	reason = m.reasons.bound(reason)
	if action == issued {
		grantType := detail["grant_type"]
		if _, known := oauth.GrantType(grantType).Rule(); !known {
			grantType = "other"
		}
		m.tokens.WithLabelValues(grantType, outcome, reason).Inc()
	}
	m.events.WithLabelValues(m.actions.bound(action), outcome, reason).Inc()
}

// Listen listens where metrics are served. It warns of an address that strangers may reach. key and variable are the
// setting and the environment variable that name the address, for errors.
func (m *Metrics) Listen(ctx context.Context, key, variable, address string, log *slog.Logger) (net.Listener, error) {
	listener, err := server.Listen(ctx, key, variable, address)
	if err != nil {
		return nil, err
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() && !at.IP.IsPrivate() {
		log.WarnContext(ctx, "metrics_listen: anybody who reaches this address may read the metrics; see that only "+
			"Prometheus does, or name an address of this machine alone, like 127.0.0.1:9090", "address", at.String())
	}
	return listener, nil
}

// Serve answers /metrics at listener until ctx ends.
func (m *Metrics) Serve(ctx context.Context, listener net.Listener, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}))
	hs := &http.Server{Handler: underOwnName(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() }) // nobody waits for a scrape
	defer stop()
	if err := hs.Serve(listener); err != nil && ctx.Err() == nil {
		log.Error("metrics are not served any more", "error", err)
	}
}

// underOwnName returns a handler that passes on to next what comes over the loopback address only if it asks under an
// address or a name of loopback: a page whose name leads to this machine (DNS rebinding) reads no names of MCP servers.
func underOwnName(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, _ := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
		name := (&url.URL{Host: r.Host}).Hostname()
		if at != nil && at.IP.IsLoopback() && net.ParseIP(name) == nil && !oauth.IsLoopback(name) {
			http.Error(w, "The metrics of this address are not served under other names: "+
				"ask 127.0.0.1 or localhost, or "+
				"let metrics_listen name an address that other machines reach.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// gauges are what is true of a server at the moment of a scrape.
type gauges func(context.Context) server.State

// The descriptions of gauges and of counters that others keep.
var (
	ready     = desc("ready", "Whether /readyz answers 200.")
	answers   = desc("store_answers", "Whether the database answers.")
	waiting   = desc("store_waiting", "Functions that wait for the database.")
	functions = desc("store_functions_total", "Functions whose changes were committed.")
	commits   = desc("store_commits_total", "Transactions that were committed; one holds several functions.")
	failures  = desc("store_failures_total", "Transactions that could not be begun or committed.")
	busy      = desc("store_transaction_seconds_total", "How long transactions took, all together.")
	disk      = desc("disk_free_bytes", "Free space where the SQLite database is.")
	steps     = desc("clock_steps_total", "How often the clock of this machine was set.")
	keyMade   = desc("signing_key_created_timestamp_seconds", "When the key that signs was created.", "alg")
	expires   = desc("tls_certificate_expires_timestamp_seconds", "When the first TLS certificate expires.")
	pending   = desc("fetches_pending", "Fetches of strangers' documents under way or waiting.", "fetcher")
	fetched   = desc("fetches_total", "Fetches of strangers' documents, by outcome.", "fetcher", "outcome")
	lag       = desc("audit_seal_lag_seconds", "How long ago all events of the audit log were sealed.")
	sessions  = desc("sessions", "Browsers in which people are signed in.")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("cardea_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (g gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{ready, answers, waiting, functions, commits, failures, busy, disk, steps,
		keyMade, expires, pending, fetched, lag, sessions} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g gauges) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	now := g(context.Background())
	gauge(ready, truth(now.Ready))
	gauge(answers, truth(now.Answers))
	gauge(waiting, float64(now.Store.Waiting))
	counter(functions, float64(now.Store.Functions))
	counter(commits, float64(now.Store.Commits))
	counter(failures, float64(now.Store.Failures))
	counter(busy, now.Store.Busy.Seconds())
	if now.RoomKnown {
		gauge(disk, float64(now.Room))
	}
	counter(steps, float64(now.ClockSteps))
	for alg, at := range now.Keys {
		gauge(keyMade, float64(at.UnixMilli())/1000, alg)
	}
	if at := now.CertificateExpires; !at.IsZero() {
		gauge(expires, float64(at.Unix()))
	}
	for name, stats := range now.Fetches {
		gauge(pending, float64(stats.Pending), name)
		counter(fetched, float64(stats.Fetched), name, "fetched")
		counter(fetched, float64(stats.NotAllowed), name, "not_allowed")
		counter(fetched, float64(stats.Failed), name, "failed")
		counter(fetched, float64(stats.Busy), name, "busy")
	}
	gauge(lag, now.Unsealed.Seconds())
	gauge(sessions, float64(now.Sessions))
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
