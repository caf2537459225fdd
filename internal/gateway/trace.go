package gateway

import (
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// trace gives the span of the request, if it is traced, the name of the server and of a method that MCP has, and its
// outcome once that is recorded. It has no names of tools and no arguments.
func (c *call) trace(rt *route) {
	span := trace.SpanFromContext(c.Context())
	if !span.IsRecording() {
		return
	}
	span.SetName("mcp " + rt.Name)
	span.SetAttributes(attribute.String("cardea.server", rt.Name))
	if len(c.messages) == 1 && c.messages[0].IsKnown() {
		span.SetName("mcp " + rt.Name + " " + c.messages[0].Method)
		span.SetAttributes(attribute.String("mcp.method.name", c.messages[0].Method))
	}
	record, recorded := c.record, false
	c.record = func(outcome, reason string) {
		if !recorded { // the first one counts
			recorded = true
			span.SetAttributes(attribute.String("cardea.outcome", outcome))
			if outcome == "failed" {
				span.SetStatus(codes.Error, "")
			}
		}
		record(outcome, reason)
	}
}

// tell names the span to the server, which is the operator's own. If the request is not traced here, what the client
// named goes on as it is.
func (c *call) tell(h http.Header) {
	if trace.SpanContextFromContext(c.Context()).IsValid() {
		propagation.TraceContext{}.Inject(c.Context(), propagation.HeaderCarrier(h))
	}
}
