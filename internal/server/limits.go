package server

import (
	"time"

	"github.com/cardea-auth/cardea/internal/config"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// limits are the bounds on what one sender may ask for. All are nil when limits.enabled is false.
type limits struct {
	registrations, updates, fetches, recorded, unused, mailRequests *strangers.Shares
	failures, people, assertions, mails                             *limit.Limiter
	accounts, addresses                                             *limit.Backoff
}

// senders is the number of senders that each limit counts separately.
const senders = 100_000

// newLimits returns the limits of c. now is their clock.
func newLimits(c config.Config, now func() time.Time) limits {
	if !c.Limits.Enabled {
		return limits{}
	}
	delays := func(free int) limit.Delays {
		return limit.Delays{Free: free, First: time.Second, Longest: 5 * time.Minute, Forget: time.Hour}
	}
	shares := func(share, everyone limit.Rate) *strangers.Shares {
		return strangers.NewShares(strangers.Address, share, everyone, senders, now)
	}
	all := c.Limits.AllFailures
	return limits{
		failures:      limit.New(c.Limits.Failures, senders, now),
		recorded:      strangers.NewShares(strangers.Network, half(all), all, senders, now),
		registrations: shares(c.Limits.Registrations, c.Limits.AllRegistrations),
		updates:       shares(c.Limits.Registrations, c.Limits.AllRegistrations),
		fetches:       shares(c.Limits.Documents, c.Limits.AllDocuments),
		people:        limit.New(c.Limits.Documents, senders, now),
		assertions:    limit.New(c.Limits.Assertions, senders, now),
		unused:        shares(c.Limits.Failures, all),
		mails:         limit.New(c.Limits.Mails, senders, now),
		mailRequests:  shares(c.Limits.MailRequests, c.Limits.AllMailRequests),
		accounts:      limit.NewBackoff(delays(c.Limits.AccountFailures), senders, now),
		addresses:     limit.NewBackoff(delays(c.Limits.AddressFailures), senders, now),
	}
}

// half returns half of a rate.
func half(r limit.Rate) limit.Rate { return limit.Rate{Every: 2 * r.Every, Burst: max(1, r.Burst/2)} }
