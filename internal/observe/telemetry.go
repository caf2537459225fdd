// Package observe tells operators how a process is: metrics for Prometheus, and traces and logs for a collector of
// OpenTelemetry.
package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/contrib/bridges/otelslog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/time/rate"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/server"
)

// Telemetry sends traces and logs to a collector. Make it with Start; the zero Telemetry sends nothing and costs
// nothing.
type Telemetry struct {
	tracer trace.Tracer // nil: requests are not traced
	traces *sdktrace.TracerProvider
	logs   *sdklog.LoggerProvider
}

// Start returns what the standard variables of OpenTelemetry ask for: traces and logs if OTEL_EXPORTER_OTLP_ENDPOINT
// names a collector, or one of the two by a variable of its own. What a collector does not take is dropped, and log
// says so once. Without such a variable, or if OTEL_SDK_DISABLED is true, nothing is sent. A setting that Cardea cannot
// follow is a warning in log, because telemetry must not keep a server from starting.
func Start(ctx context.Context, version string, log *slog.Logger) (*Telemetry, error) {
	t := &Telemetry{}
	sendTraces, sendLogs := wanted("TRACES", log), wanted("LOGS", log)
	if !sendTraces && !sendLogs {
		return t, nil
	}
	// The SDK complains of each batch and each variable; what is the same each time is said now and then.
	now := &rate.Sometimes{First: 5, Interval: time.Hour}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		now.Do(func() { log.Warn("OpenTelemetry: " + err.Error()) })
	}))
	otel.SetLogger(logr.Discard()) // it writes the same in a form of its own, past the log
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", "cardea"), attribute.String("service.version", version)),
		resource.WithFromEnv()) // last, so that OTEL_SERVICE_NAME counts
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w; write it like deployment.environment=prod,region=eu", err)
	}
	if sendTraces {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: %w", err)
		}
		t.traces = sdktrace.NewTracerProvider(sdktrace.WithResource(about),
			sdktrace.WithBatcher(&spans{SpanExporter: exporter, to: collector{what: "traces", log: log}}))
		t.tracer = t.traces.Tracer("cardea")
	}
	if sendLogs {
		exporter, err := otlploghttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: %w", err)
		}
		t.logs = sdklog.NewLoggerProvider(sdklog.WithResource(about),
			sdklog.WithProcessor(sdklog.NewBatchProcessor(
				&records{Exporter: exporter, to: collector{what: "logs", log: log}})))
	}
	return t, nil
}

// wanted reports whether the environment asks for a signal, TRACES or LOGS.
func wanted(signal string, log *slog.Logger) bool {
	variable := func(general, own string) (name, value string) {
		if value := os.Getenv(own); value != "" {
			return own, value
		}
		return general, os.Getenv(general)
	}
	from, endpoint := variable("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT")
	if endpoint == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if u, err := url.Parse(endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		log.Warn(fmt.Sprintf("%s is not a URL, so no %s are sent; write it like http://127.0.0.1:4318", from,
			strings.ToLower(signal)))
		return false
	}
	for _, must := range []struct{ general, own, be string }{
		{"", "OTEL_" + signal + "_EXPORTER", "otlp"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_" + signal + "_PROTOCOL", "http/protobuf"},
	} {
		name, value := variable(must.general, must.own)
		switch value {
		case "", must.be:
		case "none":
			return false
		default:
			log.Warn(fmt.Sprintf("%s is %.40q, which Cardea does not have, so no %s are sent; it must be %s",
				name, value, strings.ToLower(signal), must.be))
			return false
		}
	}
	return true
}

// Logger returns a logger that writes what log does, with the id of the trace of a request that is traced, and sends it
// to the collector too.
func (t *Telemetry) Logger(log *slog.Logger) *slog.Logger {
	if t.tracer == nil && t.logs == nil {
		return log
	}
	h := handler{here: log.Handler()}
	if t.logs != nil {
		h.there = otelslog.NewHandler("cardea", otelslog.WithLoggerProvider(t.logs))
	}
	return slog.New(h)
}

// Close sends what waits, for some seconds at most.
func (t *Telemetry) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if t.traces != nil {
		_ = t.traces.Shutdown(ctx) // the log says it if the collector takes nothing
	}
	if t.logs != nil {
		_ = t.logs.Shutdown(ctx)
	}
}

// handler is a slog.Handler that writes records in two places.
type handler struct {
	here  slog.Handler
	there slog.Handler // nil: only here
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.here.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if h.there != nil {
		_ = h.there.Handle(ctx, r) // it only puts the record into a queue
	}
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		r = r.Clone()
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()))
	}
	return h.here.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	h.here = h.here.WithAttrs(attrs)
	if h.there != nil {
		h.there = h.there.WithAttrs(attrs)
	}
	return h
}

func (h handler) WithGroup(name string) slog.Handler {
	h.here = h.here.WithGroup(name)
	if h.there != nil {
		h.there = h.there.WithGroup(name)
	}
	return h
}

// Watch has each request of a server traced, and w told of it as before. A request goes on with the trace that its
// sender names only if the sender is trusted; the trace of others is a link, because strangers must not decide what is
// sampled, nor write into the traces of others.
func (t *Telemetry) Watch(w server.Watcher, trusted func(*http.Request) bool) server.Watcher {
	if t.tracer == nil {
		return w
	}
	w.Wrap = func(next http.Handler) http.Handler { return t.Wrap(next, trusted) }
	count := w.Request
	w.Request = func(r *http.Request, route, kind string, status int, took time.Duration) {
		t.request(r, route, kind, status)
		if count != nil {
			count(r, route, kind, status, took)
		}
	}
	return w
}

// Wrap returns a handler that begins a span for each request and calls next. Health checks have none.
func (t *Telemetry) Wrap(next http.Handler, trusted func(*http.Request) bool) http.Handler {
	if t.tracer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			next.ServeHTTP(w, r)
			return
		}
		ctx, options := r.Context(), []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String(httpMethod, methodOf(r)))}
		if from := sender(r); from.IsValid() {
			if trusted(r) {
				ctx = trace.ContextWithRemoteSpanContext(ctx, from)
			} else {
				options = append(options, trace.WithLinks(trace.Link{SpanContext: from}))
			}
		}
		ctx, span := t.tracer.Start(ctx, methodOf(r), options...)
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// sender returns the span that the sender of r names (W3C Trace Context), without its state, which is text of the
// sender's own.
func sender(r *http.Request) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.HeaderCarrier(r.Header))
	return trace.SpanContextFromContext(ctx).WithTraceState(trace.TraceState{})
}

// request tells the span of a request what is known after the response.
func (t *Telemetry) request(r *http.Request, route, kind string, status int) {
	span := trace.SpanFromContext(r.Context())
	if !span.IsRecording() {
		return
	}
	if route != "" {
		span.SetName(methodOf(r) + " " + route)
		span.SetAttributes(attribute.String(httpRoute, route))
	}
	if kind != "" {
		span.SetAttributes(attribute.String(grantType, kind))
	}
	span.SetAttributes(attribute.Int(httpStatus, status),
		attribute.String(requestID, audit.RequestFrom(r.Context()).ID))
	if status >= http.StatusInternalServerError {
		span.SetStatus(statusError, "")
	}
}

// collector says in the log whether a collector takes what it is sent.
type collector struct {
	what  string
	log   *slog.Logger
	fails bool
	told  time.Time
}

// quiet is how long the log does not repeat that a collector takes nothing.
const quiet = 10 * time.Minute

// sent notes the outcome of an export, one at a time. It returns nil, because the SDK would log each failure.
func (c *collector) sent(err error) error {
	switch {
	case errors.Is(err, context.Canceled): // at the end
	case err != nil && !c.fails && time.Since(c.told) > quiet:
		c.fails, c.told = true, time.Now()
		c.log.Warn("the collector of OpenTelemetry does not take "+c.what+"; they are dropped until it does, and "+
			"nothing waits for it; see that OTEL_EXPORTER_OTLP_ENDPOINT is the address of its OTLP receiver over HTTP",
			"error", fmt.Sprintf("%.300s", err))
	case err == nil && c.fails:
		c.fails = false
		c.log.Info("the collector of OpenTelemetry takes " + c.what + " again")
	}
	return nil
}

// records sends log records.
type records struct {
	sdklog.Exporter
	to collector
}

func (r *records) Export(ctx context.Context, all []sdklog.Record) error {
	return r.to.sent(r.Exporter.Export(ctx, all))
}
