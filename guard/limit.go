package guard

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how many requests may come in a time: that many at once, and then evenly as the time passes. The zero Rate
// allows none.
type Rate struct {
	Requests int
	Per      time.Duration
}

// Tier is a rate for tokens that cover a scope.
type Tier struct {
	Scope string
	Rate  Rate
}

// RateLimits says how many requests each client may send. A client is one client_id acting for one subject: what one
// person's agent uses up is not taken from other people who use the same application.
//
// A client has one budget, whatever its tokens are. The tier of the token that comes with a request says how much of the
// budget that request costs: one of 1,000 in the first tier, one of 50 by default. So a client that holds tokens of
// several tiers cannot use up one after the other.
type RateLimits struct {
	// Tiers are tried in order; the first whose scope the token covers counts.
	Tiers []Tier

	// Default is for every other token.
	Default Rate

	// Clients is how many clients are remembered at a time, those seen last; one that is forgotten starts anew. Zero
	// means 10,000.
	Clients int
}

// whole is a budget, in the units that requests cost. The division leaves at most one request in a million unspent.
const whole = 1_000_000_000

// LimitRate refuses with 429 rate_limit_exceeded what goes beyond limits; Retry-After has the seconds to wait. The count
// is kept in this process. It goes inside [Guard.Protect]; outside it requests share the default rate by address, IPv6
// addresses by their first 64 bits. LimitRate panics if Config.Scopes is there and does not cover the scope of a tier.
func (g *Guard) LimitRate(limits RateLimits) func(http.Handler) http.Handler {
	for _, tier := range limits.Tiers {
		if err := checkScopes(g.scopes, tier.Scope); err != nil {
			panic("guard: LimitRate: " + err.Error())
		}
	}
	type client struct{ principal, id string }
	budgets := newRecent[client, *budget](limits.Clients)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, allowed := client{principal: network(r)}, limits.Default
			if token := FromContext(r.Context()); token != nil {
				who = client{token.Principal(), token.ClientID}
				for _, tier := range limits.Tiers {
					if token.Scopes.Covers(tier.Scope) {
						allowed = tier.Rate
						break
					}
				}
			}
			fresh := func() *budget { return &budget{limiter: rate.NewLimiter(0, whole)} }
			if wait, ok := budgets.findOrMake(who, fresh).spend(g.now(), allowed); !ok {
				g.WriteError(w, r, &Error{
					Status:      http.StatusTooManyRequests,
					Code:        "rate_limit_exceeded",
					Description: "Too many requests from this client; Retry-After tells how many seconds to wait.",
					RetryAfter:  wait,
				})
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// budget is what is left to one client.
type budget struct {
	mu      sync.Mutex
	limiter *rate.Limiter
}

// spend takes what a request costs at the rate allowed. If not enough is left, it takes nothing and returns how long to
// wait; zero means for ever.
func (b *budget) spend(now time.Time, allowed Rate) (wait time.Duration, ok bool) {
	if allowed.Requests <= 0 || allowed.Per <= 0 {
		return 0, false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limiter.SetLimitAt(now, rate.Limit(whole/allowed.Per.Seconds()))
	reservation := b.limiter.ReserveN(now, max(1, whole/allowed.Requests))
	if wait = reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
	}
	return wait, wait == 0
}

// network returns the address that r comes from, or the first 64 bits of it if it is one of IPv6, since a host has all
// addresses that begin so.
func network(r *http.Request) string {
	addr, err := netip.ParseAddr(address(r))
	if err != nil || !addr.Is6() || addr.Is4In6() {
		return address(r)
	}
	prefix, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return address(r)
	}
	return prefix.String()
}
