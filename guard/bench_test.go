package guard_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/cardea-auth/cardea/guard"
	"github.com/cardea-auth/cardea/guard/guardtest"
)

// BenchmarkVerify compares the cost of a token's first verification and of later ones.
func BenchmarkVerify(b *testing.B) {
	b.Run("first", func(b *testing.B) {
		w := newWorld(b, func(c *guard.Config) { c.Remember = 2 })
		tokens := make([]string, 64) // more than the cache holds
		for n := range tokens {
			tokens[n] = w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
		}
		b.ReportAllocs()
		n := 0
		for b.Loop() {
			if _, err := w.Guard.Verify(b.Context(), tokens[n%len(tokens)]); err != nil {
				b.Fatal(err)
			}
			n++
		}
	})
	b.Run("repeat", func(b *testing.B) {
		w := newWorld(b)
		token := w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"})
		b.ReportAllocs()
		for b.Loop() {
			if _, err := w.Guard.Verify(b.Context(), token); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkProtect compares a complete request with a cached token with one without a guard.
func BenchmarkProtect(b *testing.B) {
	w := newWorld(b)
	bare := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for name, handler := range map[string]http.Handler{"guarded": w.Guard.Protect(bare), "bare": bare} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodPost, resource, nil)
			r.Header.Set("Authorization",
				"Bearer "+w.Token(guardtest.Claims{Audience: resource, Scope: "mcp:tools:weather"}))
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(nopWriter{}, r)
			}
		})
	}
}

type nopWriter struct{}

func (nopWriter) Header() http.Header         { return http.Header{} }
func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) WriteHeader(int)             {}
