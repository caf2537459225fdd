// Package strangers limits what senders that have not authenticated can cause: it bounds the refusals in the audit log,
// refuses senders that were refused too often, and limits expensive operations and fetches.
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

// Recorder records refusals of requests whose sender has not authenticated. A sender that was refused too often gets
// 429, and its requests are not recorded. Refusals beyond Recorded, by network and in total, are answered as usual but
// not recorded. So no stranger can fill the audit log. The number of requests that were not recorded is recorded once a
// minute.
type Recorder struct {
	DB       *store.DB
	Failures *limit.Limiter // refusals by network address; nil: unlimited
	Recorded *Shares        // refusals with an event of their own; nil: unlimited

	mu     sync.Mutex
	untold int       // refusals that were neither recorded nor counted in an event
	last   string    // the action of the last of them
	toldAt time.Time // when a count was last recorded
}

// tellEvery is the least time between two events with the count of refusals that were not recorded.
const tellEvery = time.Minute

// Refuse records event as refused because of err and returns err, or a refusal with status 429 if the sender of r was
// refused too often. If err is a fault, Refuse returns it and records nothing.
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

// Conclude is tx.Conclude for a request whose sender may not have authenticated. It records the outcome of the
// transaction and returns err, or a refusal with status 429 if the sender was refused too often. Neither refusal rolls
// the transaction back.
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

// Note records event, for a successful request that gave the sender nothing secret. If there were too many, it records
// only their number. It never refuses the request.
func (s *Recorder) Note(r *http.Request, event audit.Event) error {
	if singly, turned := s.judge(r, nil); !singly || turned != nil {
		return s.count(func(event audit.Event) error { return s.DB.Append(toTheEnd(r), event) }, event.Action, nil)
	}
	return s.DB.Conclude(toTheEnd(r), event, nil)
}

// TurnAway returns a refusal with status 429 (RFC 6585 §4) and the given time to wait. what is the name of the limit in
// the audit log.
func (s *Recorder) TurnAway(r *http.Request, what string, after time.Duration, description string) error {
	record := func(event audit.Event) error { return s.DB.Append(toTheEnd(r), event) }
	return s.count(record, what, oauth.RefuseForNow(after, "%s", description))
}

// Tell records the number of refusals that were not recorded, if there are any and the last such event is at least a
// minute old. The server calls it regularly, because no request may follow the last one of a flood.
func (s *Recorder) Tell(ctx context.Context) error {
	s.mu.Lock()
	event, due := s.due()
	s.mu.Unlock()
	if !due {
		return nil
	}
	return s.DB.Append(ctx, event)
}

// judge takes one refusal from the budgets of the sender of r. If the sender has none left, turned is the refusal to
// send instead of err. Otherwise singly reports whether the refusal gets an event of its own.
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

// count counts one request that is not recorded and returns answer. Once a minute it calls record with an event that
// has the count.
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

// due returns the event with the count, and whether it is due.
func (s *Recorder) due() (event audit.Event, due bool) {
	now := s.DB.Now()
	if s.untold == 0 || now.Sub(s.toldAt) < tellEvery {
		return event, false
	}
	event = audit.Limited(s.last, s.untold)
	s.untold, s.toldAt = 0, now
	return event, true
}

// toTheEnd returns the context of r without its cancellation, so that a request is recorded even if its sender closes
// the connection.
func toTheEnd(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

// Address returns the key under which the sender of r is counted: its IPv4 address or its IPv6 /64.
func Address(r *http.Request) string {
	return limit.Address(audit.RequestFrom(r.Context()).Address)
}

// Network returns the network of the sender of r, of the size that one site usually gets: the /48 for IPv6 and the /24
// for IPv4.
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
		return addr.String() // cannot happen: every address has that many bits
	}
	return prefix.String()
}
