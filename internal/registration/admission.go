package registration

import (
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/strangers"
)

// Admission bounds how many clients register. Each address has its share of what
// all may register together. When that is used up, by however many addresses, a
// tenth of it more is there for networks that registered hardly anybody lately, so
// that a few networks do not shut out everybody else. Make it with NewAdmission;
// it is safe for concurrent use, and a nil *Admission admits all.
type Admission struct {
	share, everyone     *limit.Limiter
	newcomers, newcomer *limit.Limiter // all of them together, and by network
}

// newcomer is how often a network may register and still be new: who is refused,
// and comes again as it was told, is.
var newcomer = limit.Rate{Every: 10 * time.Minute, Burst: 3}

// NewAdmission returns an Admission with the share of each address and the rate of
// everyone, which tells at most so many senders apart, on the given clock.
func NewAdmission(share, everyone limit.Rate, senders int, now func() time.Time) *Admission {
	tenth := limit.Rate{Every: 10 * everyone.Every, Burst: max(1, everyone.Burst/10)}
	return &Admission{
		share: limit.New(share, senders, now), everyone: limit.New(everyone, 1, now),
		newcomers: limit.New(tenth, 1, now), newcomer: limit.New(newcomer, senders, now),
	}
}

// Admit tells whether the sender of r may register a client now, and else after
// what time.
func (a *Admission) Admit(r *http.Request) (ok bool, retryAfter time.Duration) {
	if a == nil {
		return true, 0
	}
	isNew, _ := a.newcomer.Allow(strangers.Network(r))
	// Who is new may share its bucket with thousands who are not (limit.New).
	if ok, retryAfter = a.share.Allow(strangers.Address(r)); !ok && !isNew {
		return false, retryAfter
	}
	if ok, retryAfter = a.everyone.Allow(""); !ok && isNew {
		ok, _ = a.newcomers.Allow("")
	}
	return ok, retryAfter
}

// AdmitAgain tells whether the sender of r may register a client anew that is
// there: it counts for the share of its address alone.
func (a *Admission) AdmitAgain(r *http.Request) (ok bool, retryAfter time.Duration) {
	if a == nil {
		return true, 0
	}
	return a.share.Allow(strangers.Address(r))
}
