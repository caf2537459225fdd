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

// Recorder answers requests whose sender has proven nothing yet. Each refusal is
// recorded, as every decision is, within bounds, so that no stranger can fill the
// audit log: a sender that is refused too often is turned away with 429, and what a network
// or all together are refused beyond what Recorded allows is answered like any
// other and not recorded singly. Of both a count is recorded once a minute.
type Recorder struct {
	DB       *store.DB
	Failures *limit.Limiter // refusals by network address; nil: without limit
	Recorded *Shares        // refusals that are recorded singly; nil: without limit

	mu     sync.Mutex
	untold int       // refusals that were not recorded, since that was told
	last   string    // what the last of them was
	toldAt time.Time // when their count was last recorded
}

// tellEvery is how often at most the count of what was not recorded is recorded.
const tellEvery = time.Minute

// Refuse records event as refused for err and returns err, or turns the sender
// of r away. A fault is returned as it is.
func (s *Recorder) Refuse(r *http.Request, event audit.Event, err error) error {
	if !oauth.IsRefusal(err) {
		return err
	}
	record := func(event audit.Event) error { return s.DB.Append(toTheEnd(r), event) }
	switch singly, turned := s.judge(r, err); {
	case turned != nil:
		return s.count(record, event.Action, turned)
	case !singly:
		return s.count(record, event.Action, err)
	}
	return s.DB.Conclude(toTheEnd(r), event, err)
}

// Conclude is tx.Conclude for a request whose sender may be anybody: it records
// the outcome of the transaction and returns err, or turns the sender away. What
// the transaction changed stands.
func (s *Recorder) Conclude(tx *store.Tx, r *http.Request, event audit.Event, err error) error {
	if oauth.IsRefusal(err) {
		switch singly, turned := s.judge(r, err); {
		case turned != nil:
			return s.count(tx.Record, event.Action, turned)
		case !singly:
			return s.count(tx.Record, event.Action, err)
		}
	}
	return tx.Conclude(event, err)
}

// Note records event, an answer that gave nothing away, unless there were too many
// of them: then only their count is recorded. The answer stands either way.
func (s *Recorder) Note(r *http.Request, event audit.Event) error {
	if singly, turned := s.judge(r, nil); !singly || turned != nil {
		return s.count(func(event audit.Event) error { return s.DB.Append(toTheEnd(r), event) }, event.Action, nil)
	}
	return s.DB.Conclude(toTheEnd(r), event, nil)
}

// TurnAway refuses r with 429 (RFC 6585 §4): it may come again after the given
// time. what names the limit in the audit log.
func (s *Recorder) TurnAway(r *http.Request, what string, after time.Duration, description string) error {
	record := func(event audit.Event) error { return s.DB.Append(toTheEnd(r), event) }
	return s.count(record, what, oauth.RefuseForNow(after, "%s", description))
}

// Tell records the count of what was not recorded and not told yet, if there is any
// and a minute has gone by: nobody comes after the last of a flood.
func (s *Recorder) Tell(ctx context.Context) error {
	s.mu.Lock()
	event, due := s.due()
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.DB.Append(ctx, event)
}

// judge takes one refusal from the budgets of r's sender. turned is the refusal of a
// sender that has none left, err being the last one; singly reports whether it is
// recorded by itself.
func (s *Recorder) judge(r *http.Request, err error) (singly bool, turned error) {
	if ok, after := s.Failures.Allow(Address(r)); !ok {
		description := ""
		if err != nil {
			description = "too many refused requests from this address; the last one: " + err.Error()
		}
		return false, oauth.RefuseForNow(after, "%s", description)
	}
	singly, _ = s.Recorded.Admit(r)
	return singly, nil
}

// count counts one that is not recorded and returns answer; once a minute record has
// the count.
func (s *Recorder) count(record func(audit.Event) error, what string, answer error) error {
	s.mu.Lock()
	s.untold++
	s.last = what
	event, due := s.due()
	s.mu.Unlock()
	if due {
		if err := record(event); err != nil {
			return err
		}
	}
	return answer
}

// due returns the event that tells the count, if it is due.
func (s *Recorder) due() (event audit.Event, due bool) {
	now := s.DB.Now()
	if s.untold == 0 || now.Sub(s.toldAt) < tellEvery {
		return event, false
	}
	event = audit.Limited(s.last, s.untold)
	s.untold, s.toldAt = 0, now
	return event, true
}

// toTheEnd returns the context of r without its end: a sender that hangs up is recorded too.
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
