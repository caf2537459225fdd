package guard

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
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
// A client has one budget for all its tokens. A request costs the part of the budget that the tier of its token
// says: a thousandth at 1,000 requests, a fiftieth at 50. So a client with tokens of several tiers cannot use up one
// tier after the other.
type RateLimits struct {
	// Tiers are tried in order; the first whose scope the token covers counts.
	Tiers []Tier

	// Default is for every other token.
	Default Rate

	// Clients is how many clients are remembered, those seen last; a client that is forgotten starts with a full
	// budget. Zero means 10,000.
	Clients int

	// Shared keeps the budgets where several processes share them; package guard/valkey has one for Valkey and Redis.
	// It takes the cost of a request from the budget of a client, and returns whether there was enough, and otherwise
	// how long to wait. While it returns an error, this process limits by itself. Nil means that it always does.
	Shared func(ctx context.Context, client string, allowed Rate) (wait time.Duration, ok bool, err error)
}

// sayEvery is how often the log is told that shared budgets cannot be reached.
const sayEvery = time.Minute

// whole is a full budget. It is a large number, so that little is lost when it is divided among requests.
const whole = 1_000_000_000

// LimitRate answers requests beyond limits with 429 rate_limit_exceeded; Retry-After has the seconds to wait. Budgets
// are kept in this process unless limits.Shared is set. LimitRate goes inside [Guard.Protect]; outside it, requests are
// counted by address (IPv6 addresses by their first 64 bits) at the default rate. It panics if Config.Scopes is set and
// does not cover the scope of a tier.
func (g *Guard) LimitRate(limits RateLimits) func(http.Handler) http.Handler {
	for _, tier := range limits.Tiers {
		if err := checkScopes(g.scopes, tier.Scope); err != nil {
			panic("guard: LimitRate: " + err.Error())
		}
	}
	type client struct{ principal, id string }
	budgets := newRecent[client, *budget](limits.Clients)
	var said atomic.Int64 // when the log was told, in seconds
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
			spend := func() (time.Duration, bool) { return budgets.findOrMake(who, fresh).spend(g.now(), allowed) }
			if limits.Shared != nil {
				wait, ok, err := limits.Shared(r.Context(), g.resource+"|"+who.principal+"|"+who.id, allowed)
				if err == nil {
					spend = func() (time.Duration, bool) { return wait, ok }
				} else if now := time.Now().Unix(); now-said.Load() >= int64(sayEvery.Seconds()) {
					said.Store(now)
					g.log.WarnContext(r.Context(),
						"guard: shared rate limits cannot be reached; this process limits by itself", "error", err)
				}
			}
			if wait, ok := spend(); !ok {
				g.WriteError(w, r, &Error{
					Status:      http.StatusTooManyRequests,
					Code:        "rate_limit_exceeded",
					Description: "Too many requests from this client; Retry-After says how many seconds to wait.",
					RetryAfter:  wait,
				})
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// budget is what one client has left.
type budget struct {
	mu      sync.Mutex
	limiter *rate.Limiter
}

// spend takes the cost of a request at the rate allowed. If less is left, it takes nothing and returns false and how
// long to wait, or zero if no time is long enough.
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

// network returns the address of r's sender, or the first 64 bits of an IPv6 address, because a host has all addresses
// that begin with them.
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
