package strangers_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/store/storetest"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// sender returns a request from an address.
func sender(t testing.TB, address string) *http.Request {
	return httptest.NewRequestWithContext(audit.WithRequest(t.Context(), audit.Request{Address: address}),
		http.MethodPost, "/oauth2/register", nil)
}

func TestShares(t *testing.T) {
	clock := storetest.NewClock()
	begin := func() *strangers.Shares {
		return strangers.NewShares(strangers.Address, limit.Rate{Every: time.Second, Burst: 60},
			limit.Rate{Every: 100 * time.Millisecond, Burst: 600}, 1000, clock.Now)
	}
	admitted := func(a *strangers.Shares, address string) bool {
		ok, after := a.Admit(sender(t, address))
		if !ok && after <= 0 {
			t.Errorf("%s is refused for %v", address, after)
		}
		return ok
	}
	// flood sends as many requests as it can from the given number of addresses, and returns how many were admitted.
	flood := func(a *strangers.Shares, addresses int, format string) (n int) {
		for i := range addresses {
			for range 100 {
				if admitted(a, fmt.Sprintf(format, i)) {
					n++
				}
			}
		}
		return n
	}
	t.Run("DC-14 an address has its share", func(t *testing.T) {
		a := begin()
		if n := flood(a, 1, "192.0.2.%d"); n != 60 {
			t.Errorf("one address registered %d", n)
		}
		if n := flood(a, 1000, "2001:db8:0:1::%x"); n != 60 {
			t.Errorf("one /64 registered %d", n)
		}
	})
	for _, attack := range []struct {
		name, format string
		addresses    int
	}{
		{"a /24", "192.0.2.%d", 256},
		{"a /48 of 65,536 networks", "2001:db8:0:%x::1", 2000},
		{"ten addresses of ten networks", "192.0.%d.1", 10},
	} {
		t.Run("DC-14 other networks are admitted during "+attack.name, func(t *testing.T) {
			a := begin()
			if n := flood(a, attack.addresses, attack.format); n < 600 || n > 603 {
				t.Errorf("%d were admitted, want 600", n)
			}
			for i := range 50 {
				if address := fmt.Sprintf("203.0.%d.7", i); !admitted(a, address) {
					t.Fatalf("%s is refused", address)
				}
			}
			if !admitted(a, "2001:db8:ffff::1") {
				t.Error("another /48 is refused")
			}
		})
	}
	t.Run("DC-14 a botnet of many networks is bounded as well", func(t *testing.T) {
		a, n := begin(), 0
		for i := range 2000 {
			if admitted(a, fmt.Sprintf("10.%d.%d.1", i/250, i%250)) {
				n++
			}
		}
		if n != 660 {
			t.Errorf("%d were admitted, want 660", n)
		}
		clock.Advance(10 * time.Second)
		if !admitted(a, "203.0.113.7") {
			t.Error("nobody is admitted ten seconds later")
		}
	})
	t.Run("without limits", func(t *testing.T) {
		var a *strangers.Shares
		ok, _ := a.Admit(sender(t, "192.0.2.1"))
		if !ok {
			t.Error("refused")
		}
	})
}
