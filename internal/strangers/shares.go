package strangers

import (
	"net/http"
	"time"

	"github.com/cardea-auth/cardea/internal/limit"
)

// Shares bounds what costs more than an answer, such as new clients. Each sender has its share of what there is for
// everyone. When that is used up, by however many senders, a tenth of it more is there for networks that took hardly
// anything lately, so that a few networks do not shut out everybody else. Make it with NewShares; it is safe for
// concurrent use, and a nil *Shares admits all.
type Shares struct {
	by                  func(*http.Request) string
	share, everyone     *limit.Limiter
	newcomers, newcomer *limit.Limiter // all of them together, and by network
}

// newcomer is how often a network may come and still be new: one that is refused, and comes again as it was told, is.
var newcomer = limit.Rate{Every: 10 * time.Minute, Burst: 3}

// NewShares returns Shares with the share of each sender, by Address or Network, and the rate of everyone, which tells at
// most so many senders apart, on the given clock.
func NewShares(by func(*http.Request) string, share, everyone limit.Rate, senders int, now func() time.Time) *Shares {
	tenth := limit.Rate{Every: 10 * everyone.Every, Burst: max(1, everyone.Burst/10)}
	return &Shares{
		by: by, share: limit.New(share, senders, now), everyone: limit.New(everyone, 1, now),
		newcomers: limit.New(tenth, 1, now), newcomer: limit.New(newcomer, senders, now),
	}
}

// A verdict says whose budget allows one more, or does not.
type verdict int

const (
	admitted     verdict = iota
	shareUsed            // the sender's own
	everyoneUsed         // that of all together
)

// Admit reports whether the sender of r may have one more now, and else after what time.
func (s *Shares) Admit(r *http.Request) (ok bool, retryAfter time.Duration) {
	v, retryAfter := s.admit(r)
	return v == admitted, retryAfter
}

func (s *Shares) admit(r *http.Request) (verdict, time.Duration) {
	if s == nil {
		return admitted, 0
	}
	isNew, _ := s.newcomer.Allow(Network(r))
	// One that is new may share its bucket with thousands that are not (limit.New).
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
