package strangers_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// TestFetchesAtOnce checks the limits with fetches that never end.
func TestFetchesAtOnce(t *testing.T) {
	// hold takes fetches for the addresses until one is refused, and returns how many it took and the last refusal.
	hold := func(f *strangers.Fetches, addresses int, format string) (n int, last error) {
		for i := range addresses {
			for range 100 {
				_, err := f.Take(sender(t, fmt.Sprintf(format, i)), "")
				if err != nil {
					last = err
					break
				}
				n++
			}
		}
		return n, last
	}
	code := func(err error) oauth.ErrorCode {
		refusal, ok := oauth.AsRefusal(err)
		if !ok || refusal.RetryAfter <= 0 {
			t.Errorf("%v", err)
			return ""
		}
		return refusal.Code
	}
	for _, attack := range []struct {
		name, format  string
		addresses, of int
		last          oauth.ErrorCode
	}{
		{"one address", "192.0.2.%d", 1, 8, oauth.TooManyRequests},
		{"one /64", "2001:db8:0:1::%x", 100, 8, oauth.TooManyRequests},
		{"a /24", "192.0.2.%d", 250, 16, oauth.TooManyRequests},
		{"a /48", "2001:db8:0:%x::1", 1000, 16, oauth.TooManyRequests},
	} {
		t.Run(attack.name, func(t *testing.T) {
			f := new(strangers.Fetches)
			if n, last := hold(f, attack.addresses, attack.format); n != attack.of || code(last) != attack.last {
				t.Errorf("%d are under way, want %d; the last was refused with %v", n, attack.of, last)
			}
			for i := range 8 {
				if _, err := f.Take(sender(t, fmt.Sprintf("203.0.%d.7", i)), ""); err != nil {
					t.Errorf("another network is refused: %v", err)
				}
			}
		})
	}
	t.Run("several networks leave room for others", func(t *testing.T) {
		f := new(strangers.Fetches)
		if n, last := hold(f, 5, "192.0.%d.1"); n > 27 || code(last) != oauth.TemporarilyUnavailable {
			t.Errorf("%d are under way; the last was refused with %v", n, last)
		}
		if _, err := f.Take(sender(t, "203.0.113.7"), ""); err != nil {
			t.Errorf("another network is refused: %v", err)
		}
		if _, err := f.Take(sender(t, "192.0.1.1"), "usr_ada"); err != nil {
			t.Errorf("a person who is signed in is refused: %v", err)
		}
	})
	t.Run("a fetch that ends makes room", func(t *testing.T) {
		f := new(strangers.Fetches)
		for range 1000 {
			done, err := f.Take(sender(t, "192.0.2.1"), "")
			if err != nil {
				t.Fatal(err)
			}
			done()
		}
		if n, _ := hold(f, 1, "192.0.2.%d"); n != 8 {
			t.Errorf("%d are under way", n)
		}
	})
	t.Run("without a budget", func(t *testing.T) {
		var f *strangers.Fetches
		done, err := f.Take(sender(t, "192.0.2.1"), "")
		if err != nil {
			t.Fatal(errors.Unwrap(err))
		}
		done()
	})
}
