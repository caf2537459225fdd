package guard

import (
	"net/http"
	"time"

	"golang.org/x/time/rate"
)

// Rate is how many requests may come in a time: that many at once, and then evenly as the time passes. The zero Rate
// lets nothing through.
type Rate struct {
	Requests int
	Per      time.Duration
}

func (r Rate) limiter() *rate.Limiter {
	if r.Requests <= 0 || r.Per <= 0 {
		return rate.NewLimiter(0, 0)
	}
	return rate.NewLimiter(rate.Limit(float64(r.Requests)/r.Per.Seconds()), r.Requests)
}

// Tier is a rate for tokens that cover a scope.
type Tier struct {
	Scope string
	Rate  Rate
}

// RateLimits says how much each client may ask. A client is one client_id acting for one subject: what one person's
// agent uses up is not taken from others who use the same application.
type RateLimits struct {
	// Tiers are tried in order; the first whose scope the token covers counts.
	Tiers []Tier

	// Default is for every other token.
	Default Rate

	// Clients is how many clients are remembered at a time, those seen last; who is forgotten starts anew. Zero means
	// 10,000.
	Clients int
}

// LimitRate refuses with 429 rate_limit_exceeded, and the seconds to wait in Retry-After, what goes beyond limits. The
// count is kept in this process. It goes inside [Guard.Protect]; requests without a token share the default rate by
// address.
func (g *Guard) LimitRate(limits RateLimits) func(http.Handler) http.Handler {
	type client struct {
		principal, id string
		tier          int
	}
	clients := newRecent[client, *rate.Limiter](limits.Clients)
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who, allowed := client{principal: address(r), tier: -1}, limits.Default
			if token := FromContext(r.Context()); token != nil {
				who.principal, who.id = token.Principal(), token.ClientID
				for n, tier := range limits.Tiers {
					if token.Scopes.Covers(tier.Scope) {
						who.tier, allowed = n, tier.Rate
						break
					}
				}
			}
			now := g.now()
			reservation := clients.findOrMake(who, allowed.limiter).ReserveN(now, 1)
			if wait := reservation.DelayFrom(now); wait > 0 {
				reservation.CancelAt(now)
				g.WriteError(w, r, &Error{
					Status:      http.StatusTooManyRequests,
					Code:        "rate_limit_exceeded",
					Description: "Too many requests from this client; Retry-After tells how many seconds to wait.",
					RetryAfter:  min(wait, allowed.Per),
				})
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}
