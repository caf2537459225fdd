// Package strangers answers requests whose sender has proven nothing yet: it
// records refusals within bounds and turns away a sender that is refused too often.
package strangers

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

// Recorder answers requests whose sender has proven nothing yet. Each refusal
// is recorded, as every decision is; but who is refused too often is turned away
// with 429, and of those only a count is recorded once a minute, so that no
// stranger can fill the audit log.
type Recorder struct {
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
func (s *Recorder) Refuse(r *http.Request, event audit.Event, err error) error {
	if !oauth.IsRefusal(err) {
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
func (s *Recorder) Conclude(tx *store.Tx, r *http.Request, event audit.Event, err error) error {
	if oauth.IsRefusal(err) {
		if after, over := s.over(r); over {
			return s.turnAway(tx.Record, event.Action, after, "too many refused requests from this address; the last one: "+err.Error())
		}
	}
	return tx.Conclude(event, err)
}

// Note records event, an answer that gave nothing away, unless the sender of r
// has had too many of them: then only their count is recorded. The answer stands
// either way.
func (s *Recorder) Note(r *http.Request, event audit.Event) error {
	if after, over := s.over(r); over {
		if err := s.TurnAway(r, event.Action, after, ""); !oauth.IsRefusal(err) {
			return err
		}
		return nil
	}
	return s.DB.Conclude(toTheEnd(r), event, nil)
}

// TurnAway refuses r with 429 (RFC 6585 §4): it may come again after the given
// time. what names the limit in the audit log.
func (s *Recorder) TurnAway(r *http.Request, what string, after time.Duration, description string) error {
	record := func(event audit.Event) error { return s.DB.Append(toTheEnd(r), event) }
	return s.turnAway(record, what, after, description)
}

func (s *Recorder) turnAway(record func(audit.Event) error, what string, after time.Duration, description string) error {
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
func (s *Recorder) over(r *http.Request) (after time.Duration, over bool) {
	ok, after := s.Failures.Allow(Address(r))
	return after, !ok
}

// toTheEnd returns the context of r without its end: who hangs up is recorded too.
func toTheEnd(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

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

// Network returns the network of the sender of r, as one site gets it: of IPv6 the
// /48, of IPv4 the /24.
func Network(r *http.Request) string {
	text := audit.RequestFrom(r.Context()).Address
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	addr = addr.Unmap().WithZone("")
	bits := 24
	if addr.Is6() {
		bits = 48
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return addr.String() // every address has so many bits
	}
	return prefix.String()
}
