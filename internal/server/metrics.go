package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cardea-auth/cardea/internal/fetch"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// metrics are what Prometheus reads. No label has a value that a stranger chooses, or that names a person or a client.
type metrics struct {
	registry *prometheus.Registry

	requests  *prometheus.CounterVec   // by route, method and status
	durations *prometheus.HistogramVec // by route and method
	events    *prometheus.CounterVec   // by action, outcome and reason
	tokens    *prometheus.CounterVec   // by grant type, outcome and reason
	tools     *prometheus.CounterVec   // tool calls by outcome
	limited   prometheus.Counter       // refusals that were only counted
	actions   names
	reasons   names

	unsealed func() time.Duration // how long events have waited to be sealed
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

// newMetrics returns the metrics of a server. fetchers are by name.
func newMetrics(s *Server, fetchers map[string]*fetch.Client) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "cardea_" + name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	m.requests = vec("http_requests_total", "Requests by route, method and status.", "route", "method", "status")
	m.durations = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "cardea_http_request_duration_seconds",
		Help: "How long requests took, by route and method.", Buckets: buckets}, []string{"route", "method"})
	m.events = vec("events_total", "Decisions in the audit log, by action, outcome and reason.", "action", "outcome",
		"reason")
	m.tokens = vec("token_requests_total", "Token requests by grant type, outcome and reason.", "grant_type", "outcome",
		"reason")
	m.tools = vec("tool_calls_total", "Tool calls that guards and gateways reported, by outcome.", "outcome")
	m.limited = prometheus.NewCounter(prometheus.CounterOpts{Name: "cardea_refusals_not_recorded_total",
		Help: "Refusals that the audit log only has the number of, because there were too many."})
	m.registry.MustRegister(m.durations, m.limited, &gauges{server: s, fetchers: fetchers}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	// What is counted is there from the beginning, so that a rate sees the first.
	for _, grantType := range oauth.GrantTypes() {
		m.tokens.WithLabelValues(string(grantType), allowed, "")
	}
	for _, outcome := range []string{allowed, refused, "failed"} {
		m.tools.WithLabelValues(outcome)
	}
	m.events.WithLabelValues("token.reuse", refused, string(oauth.InvalidGrant))
	m.events.WithLabelValues("login.sign_in", allowed, "")
	return m
}

// request counts a response; web.Front calls it.
func (m *metrics) request(route, method, requestID string, status int, duration time.Duration) {
	if route == "" {
		route = "none"
	}
	if !slices.Contains(methods, method) {
		method = "other"
	}
	if status == 0 {
		status = http.StatusOK // which net/http sends
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	observer := m.durations.WithLabelValues(route, method)
	if with, ok := observer.(prometheus.ExemplarObserver); ok {
		with.ObserveWithExemplar(duration.Seconds(), prometheus.Labels{"request_id": requestID})
		return
	}
	observer.Observe(duration.Seconds())
}

// methods are the methods that are told apart.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// The outcomes of events, and the action of a token request.
const allowed, refused, issued = "allowed", "refused", "token.request"

// event counts an event of the audit log; store.DB calls it.
func (m *metrics) event(action, outcome, reason string, detail map[string]string) {
	switch {
	case strings.HasPrefix(action, "limit."):
		if n, err := strconv.Atoi(detail["refused"]); err == nil && n > 0 {
			m.limited.Add(float64(n))
		}
		return
	case action == "tool.call": // its reason is what the reporter says
		if detail["result"] == "failed" {
			outcome = "failed"
		}
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

// listen listens where metrics are served. It warns of an address that strangers may reach.
func (m *metrics) listen(ctx context.Context, address string, log *slog.Logger) (net.Listener, error) {
	listener, err := Listen(ctx, "metrics_listen", "CARDEA_METRICS_LISTEN", address)
	if err != nil {
		return nil, err
	}
	if at, ok := listener.Addr().(*net.TCPAddr); ok && !at.IP.IsLoopback() && !at.IP.IsPrivate() {
		log.WarnContext(ctx, "metrics_listen: whoever reaches this address may read the metrics; see that only "+
			"Prometheus does, or name an address of this machine alone, like 127.0.0.1:9090", "address", at.String())
	}
	return listener, nil
}

// serve answers at listener until ctx ends.
func (m *metrics) serve(ctx context.Context, listener net.Listener, log *slog.Logger) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}))
	hs := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() }) // nobody waits for a scrape
	defer stop()
	if err := hs.Serve(listener); err != nil && ctx.Err() == nil {
		log.Error("metrics are not served any more", "error", err)
	}
}

// gauges are what is true at the moment of a scrape. What costs a query is counted by the janitor.
type gauges struct {
	server   *Server
	fetchers map[string]*fetch.Client
}

// The descriptions of gauges and of counters that others keep.
var (
	readyDesc = desc("ready", "Whether /readyz answers 200.")
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
	build     = desc("build_info", "The version that runs; its value is 1.", "version", "database")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("cardea_"+name, help, labels, nil)
}

// Describe implements prometheus.Collector.
func (g *gauges) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{readyDesc, answers, waiting, functions, commits, failures, busy, disk, steps,
		keyMade, expires, pending, fetched, lag, sessions, build} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(to chan<- prometheus.Metric) {
	s := g.server
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	reason, _ := s.unready(ctx)
	gauge(readyDesc, truth(reason == ""))
	gauge(answers, truth(s.db.Answers()))
	stats := s.db.Stats()
	gauge(waiting, float64(stats.Waiting))
	counter(functions, float64(stats.Functions))
	counter(commits, float64(stats.Commits))
	counter(failures, float64(stats.Failures))
	counter(busy, stats.Busy.Seconds())
	if free, known := s.db.Room(); known {
		gauge(disk, float64(free))
	}
	counter(steps, float64(s.clock.times()))
	if created, err := s.keys.Signing(ctx); err == nil {
		for alg, at := range created {
			gauge(keyMade, float64(at.UnixMilli())/1000, alg)
		}
	}
	if at := s.certificateExpires(); !at.IsZero() {
		gauge(expires, float64(at.Unix()))
	}
	for name, fetcher := range g.fetchers {
		stats := fetcher.Stats()
		gauge(pending, float64(stats.Pending), name)
		counter(fetched, float64(stats.Fetched), name, "fetched")
		counter(fetched, float64(stats.NotAllowed), name, "not_allowed")
		counter(fetched, float64(stats.Failed), name, "failed")
		counter(fetched, float64(stats.Busy), name, "busy")
	}
	gauge(lag, s.metrics.unsealed().Seconds())
	gauge(sessions, float64(s.sessions.Load()))
	database := "postgresql"
	if strings.HasPrefix(s.config.Database, "sqlite:") {
		database = "sqlite"
	}
	gauge(build, 1, s.Version, database)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
