package observe_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/cardea-auth/cardea/internal/logtest"
	"github.com/cardea-auth/cardea/internal/observe"
	"github.com/cardea-auth/cardea/internal/porttest"
	"github.com/cardea-auth/cardea/internal/server"
)

// receiver is a collector, which keeps what it is sent.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string][][]byte // by path
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	c := &receiver{bodies: map[string][][]byte{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.bodies[r.URL.Path] = append(c.bodies[r.URL.Path], body)
	}))
	t.Cleanup(c.Close)
	return c
}

// spans returns the spans that were sent. A request to export has the same bytes as the data that it exports.
func (c *receiver) spans(t *testing.T) (all []*tracepb.Span) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, body := range c.bodies["/v1/traces"] {
		var data tracepb.TracesData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Fatal(err)
		}
		for _, resource := range data.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				all = append(all, scope.GetSpans()...)
			}
		}
	}
	return all
}

// records returns the log records that were sent.
func (c *receiver) records(t *testing.T) (all []*logspb.LogRecord) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, body := range c.bodies["/v1/logs"] {
		var data logspb.LogsData
		if err := proto.Unmarshal(body, &data); err != nil {
			t.Fatal(err)
		}
		for _, resource := range data.GetResourceLogs() {
			for _, scope := range resource.GetScopeLogs() {
				all = append(all, scope.GetLogRecords()...)
			}
		}
	}
	return all
}

// start returns telemetry with the variables given, names and values by turns, and the log.
func start(t *testing.T, variables ...string) (*observe.Telemetry, *logtest.Log) {
	t.Helper()
	for i := 0; i < len(variables); i += 2 {
		t.Setenv(variables[i], variables[i+1])
	}
	log := new(logtest.Log)
	telemetry, err := observe.Start(t.Context(), "v1", slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(telemetry.Close)
	return telemetry, log
}

const (
	strangersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	strangersSpan  = "00f067aa0ba902b7"
	secret         = "canary-of-a-secret"
)

// A span has what is allowed and nothing else, whatever the handlers and libraries beneath them set. The trace that a
// stranger names is a link, and that of a trusted proxy is the parent.
func TestSpans(t *testing.T) {
	collector := newReceiver(t)
	telemetry, _ := start(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.URL+"/v1/traces")
	watcher := telemetry.Watch(server.Watcher{}, func(r *http.Request) bool { return r.RemoteAddr == "proxy" })
	handler := watcher.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		span := trace.SpanFromContext(r.Context())
		span.SetAttributes(attribute.String("client_id", secret), attribute.String("url.query", secret))
		span.AddEvent("begun", trace.WithAttributes(attribute.String("password", secret)))
		span.AddLink(trace.Link{SpanContext: span.SpanContext(),
			Attributes: []attribute.KeyValue{attribute.String("email", secret)}})
		span.RecordError(errors.New(secret))
		span.SetStatus(codes.Error, secret)
		watcher.Request(r, "/oauth2/token", "refresh_token", http.StatusServiceUnavailable, time.Second)
	}))
	for _, from := range []string{"stranger", "proxy"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/oauth2/token?code="+secret, http.NoBody)
		r.RemoteAddr = from
		r.Header.Set("Traceparent", "00-"+strangersTrace+"-"+strangersSpan+"-01")
		r.Header.Set("Tracestate", "a="+secret)
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		handler.ServeHTTP(httptest.NewRecorder(),
			httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	}
	telemetry.Close()

	spans := collector.spans(t)
	if len(spans) != 2 {
		t.Fatalf("%d spans, want 2", len(spans))
	}
	for i, span := range spans {
		if text := span.String(); strings.Contains(text, secret) {
			t.Errorf("a span has what is not allowed: %s", text)
		}
		if span.GetName() != "POST /oauth2/token" || span.GetStatus().GetCode() != tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("the span %s", span)
		}
		var keys []string
		for _, a := range span.GetAttributes() {
			keys = append(keys, a.GetKey())
		}
		slices.Sort(keys)
		if want := []string{"cardea.request_id", "http.request.method", "http.response.status_code", "http.route",
			"oauth.grant_type"}; !slices.Equal(keys, want) {
			t.Errorf("attributes %q, want %q", keys, want)
		}
		within := hex.EncodeToString(span.GetTraceId()) == strangersTrace
		linked := slices.ContainsFunc(span.GetLinks(), func(l *tracepb.Span_Link) bool {
			return hex.EncodeToString(l.GetSpanId()) == strangersSpan
		})
		if trusted := i == 1; within != trusted || linked == trusted {
			t.Errorf("trusted %t: within the trace that it names: %t, linked: %t", trusted, within, linked)
		}
	}
}

// A stranger who says that its trace is sampled makes no work: how many requests are traced is the operator's choice.
func TestStrangersSampleNothing(t *testing.T) {
	collector := newReceiver(t)
	telemetry, _ := start(t, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.URL+"/v1/traces",
		"OTEL_TRACES_SAMPLER", "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG", "0")
	recorded := map[string]bool{}
	handler := telemetry.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		recorded[r.RemoteAddr] = trace.SpanFromContext(r.Context()).IsRecording()
	}), func(r *http.Request) bool { return r.RemoteAddr == "proxy" })
	for _, from := range []string{"stranger", "proxy"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
		r.RemoteAddr = from
		r.Header.Set("Traceparent", "00-"+strangersTrace+"-"+strangersSpan+"-01")
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	telemetry.Close()
	if recorded["stranger"] || !recorded["proxy"] || len(collector.spans(t)) != 1 {
		t.Errorf("traced were %v", recorded)
	}
}

// What the variables do not ask for is off, and costs not even a handler. What Cardea cannot do is a warning.
func TestVariables(t *testing.T) {
	const endpoint = "http://127.0.0.1:1"
	tests := []struct {
		name         string
		variables    []string
		traces, logs bool
		warns        string
	}{
		{"none", nil, false, false, ""},
		{"both", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint}, true, true, ""},
		{"traces", []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint}, true, false, ""},
		{"logs", []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", endpoint}, false, true, ""},
		{"disabled", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "OTEL_SDK_DISABLED", "true"}, false, false, ""},
		{"without logs", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "OTEL_LOGS_EXPORTER", "none"}, true, false,
			""},
		{"over gRPC", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, false,
			false, "OTEL_EXPORTER_OTLP_PROTOCOL is"},
		{"without a scheme", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"}, false, false,
			"OTEL_EXPORTER_OTLP_ENDPOINT is not a URL"},
		{"without a host", []string{"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://"}, false, false,
			"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT is not a URL"},
		{"to Zipkin", []string{"OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, "OTEL_TRACES_EXPORTER", "zipkin"}, false, true,
			"OTEL_TRACES_EXPORTER is"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			telemetry, log := start(t, tt.variables...)
			if traces := telemetry.Watch(server.Watcher{}, nil).Wrap != nil; traces != tt.traces {
				t.Errorf("traces: %t, want %t", traces, tt.traces)
			}
			plain := slog.New(slog.DiscardHandler)
			if off := telemetry.Logger(plain) == plain; off == (tt.traces || tt.logs) {
				t.Errorf("the logger is as it was: %t", off)
			}
			if warned := strings.Contains(log.String(), "level=WARN"); warned != (tt.warns != "") ||
				!strings.Contains(log.String(), tt.warns) {
				t.Errorf("the log: %s", log)
			}
		})
	}
}

// Records go where they went before, with the trace, and to the collector.
func TestLogger(t *testing.T) {
	collector := newReceiver(t)
	telemetry, log := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL, "OTEL_SERVICE_NAME", "auth",
		"OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	logger := telemetry.Logger(slog.New(slog.NewTextHandler(log, nil))).With("part", "one").WithGroup("of")
	telemetry.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		logger.InfoContext(r.Context(), "said", "what", "thing")
		logger.DebugContext(r.Context(), "not said")
	}), nil).ServeHTTP(httptest.NewRecorder(),
		httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	telemetry.Close()

	spans, records := collector.spans(t), collector.records(t)
	if len(spans) != 1 || len(records) != 1 {
		t.Fatalf("%d spans and %d records, want one each", len(spans), len(records))
	}
	id := trace.TraceID(spans[0].GetTraceId()).String()
	if got := trace.TraceID(records[0].GetTraceId()).String(); got != id {
		t.Errorf("the record is of the trace %s, and the span of %s", got, id)
	}
	for _, want := range []string{"msg=said", "part=one", "of.what=thing", "trace_id=" + id} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log)
		}
	}
	collector.mu.Lock()
	defer collector.mu.Unlock()
	for _, want := range []string{"auth", "deployment.environment", "v1", "said", "thing"} {
		if !bytes.Contains(collector.bodies["/v1/logs"][0], []byte(want)) {
			t.Errorf("what was sent lacks %s", want)
		}
	}
}

// A collector that does not answer costs requests nothing, and the log says it once for traces and once for logs.
func TestCollectorDown(t *testing.T) {
	gone := "http://" + porttest.Address(t)
	telemetry, log := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT", gone, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1",
		"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1")
	logger := telemetry.Logger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	served := 0
	handler := telemetry.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		logger.InfoContext(r.Context(), "request")
		served++
	}), nil)
	for range 5000 { // more than wait at once
		handler.ServeHTTP(httptest.NewRecorder(),
			httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	}
	telemetry.Close()
	if n := strings.Count(log.String(), "level=WARN"); served != 5000 || n != 2 {
		t.Errorf("%d requests were served; %d warnings, want 2:\n%.2000s", served, n, log)
	}
}

// A collector that takes requests and answers none holds up no request either.
func TestCollectorHangs(t *testing.T) {
	answer, asked := make(chan struct{}), make(chan string, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.URL.Path:
		case <-answer:
		}
		<-answer
	}))
	defer collector.Close()
	telemetry, _ := start(t, "OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1",
		"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "1", "OTEL_EXPORTER_OTLP_TIMEOUT", "3600000")
	logger := telemetry.Logger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	handler := telemetry.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		logger.InfoContext(r.Context(), "request")
	}), nil)
	served, all := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(all)
		for range 5000 { // more than wait at once
			handler.ServeHTTP(httptest.NewRecorder(),
				httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
		}
		close(served)
	}()
	bound, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	waiting := map[string]bool{"/v1/traces": true, "/v1/logs": true}
	for done := served; done != nil || len(waiting) > 0; {
		select {
		case path := <-asked:
			delete(waiting, path)
		case <-done:
			done = nil
		case <-bound.Done():
			t.Errorf("requests wait for the collector: %t; it was not asked for %v", done != nil, waiting)
			done, waiting = nil, nil
		}
	}
	close(answer)
	<-all
	telemetry.Close()
}
