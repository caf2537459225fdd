package gateway_test

import (
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/cardea-auth/cardea/internal/gateway"
)

// Calls are counted by outcome and answers by status, for each server and under no other name.
func TestMetrics(t *testing.T) {
	w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}))
	token := w.token("/files", "files:read")
	for _, tool := range []string{"read_file", "read_other", "delete_file", "secret_canary"} {
		w.post("/files", token, call("1", tool, "{}"))
	}
	w.post("/files", "not-a-token", call("1", "read_file", "{}"))
	w.server.Close()
	w.post("/files", token, call("1", "read_file", "{}"))
	const want = `
# HELP cardea_gateway_calls_total Calls of tools, resources and prompts, and what was refused or failed, by outcome.
# TYPE cardea_gateway_calls_total counter
cardea_gateway_calls_total{outcome="allowed",server="files"} 2
cardea_gateway_calls_total{outcome="failed",server="files"} 1
cardea_gateway_calls_total{outcome="refused",server="files"} 2
# HELP cardea_gateway_requests_total Answers of the gateway by MCP server and status.
# TYPE cardea_gateway_requests_total counter
cardea_gateway_requests_total{server="files",status="200"} 4
cardea_gateway_requests_total{server="files",status="401"} 1
cardea_gateway_requests_total{server="files",status="502"} 1
# HELP cardea_gateway_server_up Whether the MCP server can be reached, or its program does not keep ending.
# TYPE cardea_gateway_server_up gauge
cardea_gateway_server_up{server="files"} 0
`
	if err := testutil.CollectAndCompare(w.gw, strings.NewReader(want), "cardea_gateway_calls_total",
		"cardea_gateway_requests_total", "cardea_gateway_server_up"); err != nil {
		t.Error(err)
	}
}

// A request that is traced is named by server and method, goes on with its trace to the server behind, and has no names
// that clients choose. One that is not goes on as its client sent it.
func TestTraces(t *testing.T) {
	const clients = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	trace := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
			ctx, span := provider.Tracer("test").Start(ctx, "request")
			defer span.End()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
	for name, wrap := range map[string]func(http.Handler) http.Handler{"traced": trace, "not traced": nil} {
		t.Run(name, func(t *testing.T) {
			spans.Reset()
			w := start(t, files, official(&mcp.StreamableHTTPOptions{Stateless: true, JSONResponse: true}),
				func(o *gateway.Options) { o.Wrap = wrap })
			token := w.token("/files", "files:read")
			w.post("/files", token, call("1", "read_file", "{}"), "Traceparent", clients)
			behind := w.server.last().header.Get("Traceparent")
			w.post("/files", token, call("1", "secret_canary", "{}"))
			w.post("/files", token, `{"jsonrpc":"2.0","id":1,"method":"secret_canary"}`)
			if wrap == nil {
				if behind != clients {
					t.Errorf("the server got the trace %q", behind)
				}
				return
			}
			var names []string
			for _, span := range spans.GetSpans() {
				for _, a := range span.Attributes {
					names = append(names, string(a.Key)+"="+a.Value.AsString())
				}
				names = append(names, span.Name)
			}
			want := []string{"cardea.server=files", "mcp.method.name=tools/call", "cardea.outcome=allowed",
				"mcp files tools/call", "cardea.server=files", "mcp.method.name=tools/call", "cardea.outcome=refused",
				"mcp files tools/call", "cardea.server=files", "cardea.outcome=refused", "mcp files"}
			if !slices.Equal(names, want) {
				t.Errorf("spans %q, want %q", names, want)
			}
			first := spans.GetSpans()[0].SpanContext
			id, span := first.TraceID(), first.SpanID()
			if got := "00-" + hex.EncodeToString(id[:]) + "-" + hex.EncodeToString(span[:]) + "-01"; behind != got ||
				!strings.Contains(clients, id.String()) {
				t.Errorf("the server got the trace %q, want %q", behind, got)
			}
		})
	}
}
