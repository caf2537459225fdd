package store_test

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
	"github.com/cardea-auth/cardea/internal/store/storetest"
)

// A transaction for several requests is in the trace of one, and the spans of the others have a link to it.
func TestSpanOfSeveralRequests(t *testing.T) {
	recorder := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	storetest.Each(t, func(t *testing.T, db *store.DB, _ *storetest.Clock) {
		recorder.Reset()
		proxy, inProxy := tracer.Start(t.Context(), "proxy") // whose trace several requests may be in
		first, inFirst := tracer.Start(audit.WithRequest(proxy, audit.Request{ID: "1"}), "first")
		second, inSecond := tracer.Start(audit.WithRequest(proxy, audit.Request{ID: "2"}), "second")
		other, inOther := tracer.Start(audit.WithRequest(t.Context(), audit.Request{ID: "3"}), "other")
		if err := db.Update(first, func(tx *store.Tx) error {
			nothing := func() error { return nil }
			_, _, _ = tx.In(first, nothing), tx.In(second, nothing), tx.In(other, nothing)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, span := range []trace.Span{inFirst, inSecond, inOther, inProxy} {
			span.End()
		}
		var update sdktrace.ReadOnlySpan
		for _, span := range recorder.Ended() {
			if span.Name() == "store.update" {
				update = span
			}
		}
		if update == nil || update.Parent().SpanID() != inFirst.SpanContext().SpanID() {
			t.Fatalf("the transaction is not in the trace of the first: %v", update)
		}
		for _, span := range recorder.Ended() {
			want := 0
			if span.Name() == "second" || span.Name() == "other" {
				want = 1
			}
			links := span.Links()
			if len(links) != want || want == 1 && !links[0].SpanContext.Equal(update.SpanContext()) {
				t.Errorf("%s has the links %v, want %d to the transaction", span.Name(), links, want)
			}
		}
	})
}
