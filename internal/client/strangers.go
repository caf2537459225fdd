package client

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/limit"
	"github.com/cardea-auth/cardea/internal/oauth"
	"github.com/cardea-auth/cardea/internal/store"
)

// Strangers answers requests whose sender has proven nothing yet. Each refusal
// is recorded, as every decision is; but who is refused too often is turned away
// with 429, and of those only a count is recorded once a minute, so that no
// stranger can fill the audit log.
type Strangers struct {
	DB       *store.DB
	Failures *limit.Limiter // refusals by network address; nil: without limit

	mu     sync.Mutex
	turned int       // since told
	toldAt time.Time // when the count was last recorded
}

// tellEvery is how often at most the count of those turned away is recorded.
const tellEvery = time.Minute

// Refuse records event as refused for err and returns err, or turns the sender
// of r away. A fault is returned as it is.
func (s *Strangers) Refuse(r *http.Request, event audit.Event, err error) error {
	if !isRefusal(err) {
		return err
	}
	if after, over := s.over(r); over {
		return s.TurnAway(r, event.Action, after, "too many refused requests from this address; the last one: "+err.Error())
	}
	return s.DB.Conclude(toTheEnd(r), event, err)
}

// Conclude is tx.Conclude for a request whose sender may be anybody: it records
// the outcome of the transaction and returns err, or turns the sender away. What
// the transaction changed stands.
func (s *Strangers) Conclude(tx *store.Tx, r *http.Request, event audit.Event, err error) error {
	if isRefusal(err) {
		if after, over := s.over(r); over {
			return s.turnAway(tx.Record, event.Action, after, "too many refused requests from this address; the last one: "+err.Error())
		}
	}
	return tx.Conclude(event, err)
}

// Note records event, an answer that gave nothing away, unless the sender of r
// has had too many of them: then only their count is recorded. The answer stands
// either way.
func (s *Strangers) Note(r *http.Request, event audit.Event) error {
	if after, over := s.over(r); over {
		if err := s.TurnAway(r, event.Action, after, ""); !isRefusal(err) {
			return err
		}
		return nil
	}
	return s.DB.Conclude(toTheEnd(r), event, nil)
}

// TurnAway refuses r with 429 (RFC 6585 §4): it may come again after the given
// time. what names the limit in the audit log.
func (s *Strangers) TurnAway(r *http.Request, what string, after time.Duration, description string) error {
	record := func(event audit.Event) error { return s.DB.Append(toTheEnd(r), event) }
	return s.turnAway(record, what, after, description)
}

func (s *Strangers) turnAway(record func(audit.Event) error, what string, after time.Duration, description string) error {
	s.mu.Lock()
	s.turned++
	count, tell := s.turned, s.DB.Now().Sub(s.toldAt) >= tellEvery
	if tell {
		s.turned, s.toldAt = 0, s.DB.Now()
	}
	s.mu.Unlock()
	if tell {
		if err := record(audit.Limited(what, count)); err != nil {
			return err
		}
	}
	return oauth.RefuseForNow(after, "%s", description)
}

// over takes one refusal from the budget of r's sender, and tells when there is
// none left.
func (s *Strangers) over(r *http.Request) (after time.Duration, over bool) {
	ok, after := s.Failures.Allow(Address(r))
	return after, !ok
}

// toTheEnd returns the context of r without its end: who hangs up is recorded too.
func toTheEnd(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

func isRefusal(err error) bool {
	_, ok := oauth.AsRefusal(err)
	return ok
}

// Address returns the key under which the sender of r is counted: its network
// address, of IPv6 the /64.
func Address(r *http.Request) string {
	text := audit.RequestFrom(r.Context()).Address
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	return limit.Address(addr)
}
