package observe

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The attributes that spans may have. Each has few values, which neither name a client or a person nor come from a
// sender, but for the id of the request, which the server makes.
const (
	httpMethod = "http.request.method"
	httpRoute  = "http.route"
	httpStatus = "http.response.status_code"
	grantType  = "oauth.grant_type"
	requestID  = "cardea.request_id"
)

const statusError = codes.Error

// allowedKeys are those and what other packages set: the database, what fetches, how it ended; and of a gateway, the
// server behind it and the method of MCP.
var allowedKeys = map[attribute.Key]bool{
	httpMethod: true, httpRoute: true, httpStatus: true, grantType: true, requestID: true,
	"db.system.name": true, "cardea.outcome": true, "cardea.server": true, "mcp.method.name": true,
}

// spans sends spans, with what is allowed and nothing else: attributes of other names, those of events and links, and
// texts of errors stay here, even if a library sets them.
type spans struct {
	sdktrace.SpanExporter
	to collector
}

func (s *spans) ExportSpans(ctx context.Context, all []sdktrace.ReadOnlySpan) error {
	bare := make([]sdktrace.ReadOnlySpan, len(all))
	for i, span := range all {
		bare[i] = only{span}
	}
	return s.to.sent(s.SpanExporter.ExportSpans(ctx, bare))
}

// only is a span with what is allowed.
type only struct{ sdktrace.ReadOnlySpan }

func (o only) Attributes() (allowed []attribute.KeyValue) {
	for _, a := range o.ReadOnlySpan.Attributes() {
		if allowedKeys[a.Key] {
			allowed = append(allowed, a)
		}
	}
	return allowed
}

func (o only) Events() []sdktrace.Event {
	events := make([]sdktrace.Event, 0, len(o.ReadOnlySpan.Events()))
	for _, e := range o.ReadOnlySpan.Events() {
		e.Attributes = nil
		events = append(events, e)
	}
	return events
}

func (o only) Links() []sdktrace.Link {
	links := make([]sdktrace.Link, 0, len(o.ReadOnlySpan.Links()))
	for _, l := range o.ReadOnlySpan.Links() {
		l.Attributes = nil
		links = append(links, l)
	}
	return links
}

func (o only) Status() sdktrace.Status {
	return sdktrace.Status{Code: o.ReadOnlySpan.Status().Code}
}
