package store

import (
	"sync"

	"github.com/cardea-auth/cardea/internal/audit"
)

// recent has the events that this process has inserted and not sealed yet, so that sealing does not read them, and so
// that what is sealed is what was inserted, even if the row was changed since.
type recent struct {
	mu     sync.Mutex
	kept   bool            // a sealer asks for them
	events map[string]args // by id, the values of eventColumns as they were stored
}

const mostRecent = 8192 // beyond it the events are read from the database

// add keeps events, which may not be committed yet. values are what was stored of them.
func (r *recent) add(events []audit.Event, values args) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.kept {
		return
	}
	if len(r.events)+len(events) > mostRecent {
		clear(r.events)
	}
	for i, e := range events {
		r.events[e.ID] = values[i*newEvents.width : (i+1)*newEvents.width]
	}
}

// fill sets the texts of records that are known, and reports whether all are.
func (r *recent) fill(records []Record) bool {
	r.mu.Lock()
	if r.events == nil {
		r.kept, r.events = true, map[string]args{}
	}
	found := make([]args, len(records))
	for i, record := range records {
		found[i] = r.events[record.ID]
	}
	r.mu.Unlock()
	whole := true
	for i, values := range found {
		if values != nil && values[0] == records[i].At.UnixMicro() {
			records[i].Text = textOf(records[i], values)
		} else {
			whole = false
		}
	}
	return whole
}

// forget removes events that are sealed.
func (r *recent) forget(seals []Seal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range seals {
		delete(r.events, s.ID)
	}
}

// textOf returns an event in the form in which it is sealed, as scanRecord makes it from the stored row.
func textOf(r Record, values args) []byte {
	var t recordText
	// In the order of eventColumns, after at and id.
	for i, into := range [...]*string{&t.Action, &t.Outcome, &t.Reason, &t.Description, &t.ClientID, &t.UserID,
		&t.GrantID, &t.Resource, &t.Scope, &t.Detail, &t.RequestID, &t.Address, &t.UserAgent, &t.ActorType, &t.ActorID,
		&t.ActorName, &t.Changes} {
		*into, _ = values[i+2].(string)
	}
	return t.text(r.At, r.ID)
}
