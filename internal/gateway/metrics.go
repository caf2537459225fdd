package gateway

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what Prometheus reads of a gateway. The only names in them are those of servers, which the operator
// gives.
type metrics struct {
	requests *prometheus.CounterVec   // by server and status
	calls    *prometheus.CounterVec   // by server and outcome
	answers  *prometheus.HistogramVec // how long servers took, by server
	streams  *prometheus.GaugeVec     // by server
	ends     *prometheus.CounterVec   // of programs by themselves, by server
}

func newMetrics() *metrics {
	name := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Name: "cardea_gateway_" + name, Help: help}
	}
	counter := func(opts prometheus.Opts, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts(opts), append([]string{"server"}, labels...))
	}
	answers := name("upstream_duration_seconds", "How long MCP servers took to begin their answers.")
	return &metrics{
		requests: counter(name("requests_total", "Answers of the gateway by MCP server and status."), "status"),
		calls: counter(name("calls_total",
			"Calls of tools, resources and prompts, and what was refused or failed, by outcome."), "outcome"),
		answers: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: answers.Name, Help: answers.Help,
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"server"}),
		streams: prometheus.NewGaugeVec(prometheus.GaugeOpts(name("streams", "Streams that are open.")),
			[]string{"server"}),
		ends: counter(name("program_ends_total", "Programs that ended by themselves, and starts that failed.")),
	}
}

// of makes what is counted of a server be there from the beginning, so that a rate sees the first.
func (m *metrics) of(s *Server) {
	for _, outcome := range []string{"allowed", "refused", "failed"} {
		m.calls.WithLabelValues(s.Name, outcome)
	}
	m.answers.WithLabelValues(s.Name)
	m.streams.WithLabelValues(s.Name)
	if s.Command != nil {
		m.ends.WithLabelValues(s.Name)
	}
}

// answered notes that a server has begun its answer to a request of this time.
func (m *metrics) answered(s *Server, since time.Time) {
	m.answers.WithLabelValues(s.Name).Observe(time.Since(since).Seconds())
}

// counted is an http.ResponseWriter that keeps the status of the response.
type counted struct {
	http.ResponseWriter
	status int
}

func (c *counted) WriteHeader(status int) {
	if c.status == 0 && status >= http.StatusOK {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (c *counted) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// count serves r by the route, and counts the answer.
func (m *metrics) count(rt *route, w http.ResponseWriter, r *http.Request) {
	c := &counted{ResponseWriter: w}
	defer func() {
		if c.status == 0 {
			c.status = http.StatusOK // which net/http sends
		}
		m.requests.WithLabelValues(rt.Name, strconv.Itoa(c.status)).Inc()
	}()
	rt.handler.ServeHTTP(c, r)
}

// The descriptions of what is true of a server at the moment of a scrape.
var (
	up = prometheus.NewDesc("cardea_gateway_server_up",
		"Whether the MCP server can be reached, or its program does not keep ending.", []string{"server"}, nil)
	programs = prometheus.NewDesc("cardea_gateway_programs",
		"Programs that run, one for each session.", []string{"server"}, nil)
	programsMost = prometheus.NewDesc("cardea_gateway_programs_max",
		"How many programs may run.", []string{"server"}, nil)
)

// Describe implements prometheus.Collector.
func (g *Gateway) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{up, programs, programsMost} {
		to <- d
	}
	for _, c := range g.metrics.all() {
		c.Describe(to)
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.requests, m.calls, m.answers, m.streams, m.ends}
}

// Collect implements prometheus.Collector. It looks at servers that nobody has looked at lately, and takes two seconds
// for that at most.
func (g *Gateway) Collect(to chan<- prometheus.Metric) {
	for _, c := range g.metrics.all() {
		c.Collect(to)
	}
	gauge := func(d *prometheus.Desc, value int, rt *route) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), rt.Name)
	}
	for rt, seen := range g.lookAll(context.Background(), g.table.Load()) {
		healthy := 0
		if seen.Status == "healthy" {
			healthy = 1
		}
		gauge(up, healthy, rt)
		if seen.Programs != nil {
			gauge(programs, *seen.Programs, rt)
			gauge(programsMost, rt.Sessions, rt)
		}
	}
}
