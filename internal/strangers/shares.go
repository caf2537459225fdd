package strangers

import (
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
)

// Shares limits expensive operations, such as registrations. Each sender has a share of the common rate. Once the
// common rate is used up, another tenth of it is reserved for networks that sent hardly anything lately, so that a few
// networks do not block all others. Use NewShares to make one. It is safe for concurrent use, and a nil *Shares admits
// everything.
type Shares struct {
	by                  func(*http.Request) string
	share, everyone     *limit.Limiter
	newcomers, newcomer *limit.Limiter // for all of them together, and by network
}

// newcomer is how often a network may send requests and still count as new. The burst leaves room for a network that is
// refused and tries again later.
var newcomer = limit.Rate{Every: 10 * time.Minute, Burst: 3}

// NewShares returns Shares with the given rates for each sender and for everyone. by returns the key of a sender:
// Address or Network. At most senders keys are counted separately.
func NewShares(by func(*http.Request) string, share, everyone limit.Rate, senders int, now func() time.Time) *Shares {
	tenth := limit.Rate{Every: 10 * everyone.Every, Burst: max(1, everyone.Burst/10)}
	return &Shares{
		by: by, share: limit.New(share, senders, now), everyone: limit.New(everyone, 1, now),
		newcomers: limit.New(tenth, 1, now), newcomer: limit.New(newcomer, senders, now),
	}
}

// A verdict is the result of a check: admitted, or the budget that is used up.
type verdict int

const (
	admitted     verdict = iota
	shareUsed            // the sender's own
	everyoneUsed         // the common one
)

// Admit takes one operation from the budgets and reports whether there was one. If not, retryAfter is the time to wait.
func (s *Shares) Admit(r *http.Request) (ok bool, retryAfter time.Duration) {
	v, retryAfter := s.admit(r)
	return v == admitted, retryAfter
}

func (s *Shares) admit(r *http.Request) (verdict, time.Duration) {
	if s == nil {
		return admitted, 0
	}
	isNew, _ := s.newcomer.Allow(Network(r))
	// A new network may share its bucket with thousands of others (limit.New).
	if ok, retryAfter := s.share.Allow(s.by(r)); !ok && !isNew {
		return shareUsed, retryAfter
	}
	ok, retryAfter := s.everyone.Allow("")
	if !ok && isNew {
		ok, _ = s.newcomers.Allow("")
	}
	if !ok {
		return everyoneUsed, retryAfter
	}
	return admitted, 0
}
