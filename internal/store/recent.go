package store

import (
	"sync"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

// recent has the events that this process has inserted and not sealed yet, so that sealing does not read them, and so
// that what is sealed is what was inserted, whatever became of the row since.
type recent struct {
	mu     sync.Mutex
	kept   bool // a sealer asks for them
	events map[string]audit.Event
}

const mostRecent = 8192 // beyond it the events are read from the database

// add keeps events, which may not be committed yet.
func (r *recent) add(events []audit.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.kept {
		return
	}
	if len(r.events)+len(events) > mostRecent {
		clear(r.events)
	}
	for _, e := range events[:min(len(events), mostRecent)] {
		r.events[e.ID] = e
	}
}

// fill sets the texts of records that are known, and reports whether all are.
func (r *recent) fill(records []Record) bool {
	r.mu.Lock()
	if r.events == nil {
		r.kept, r.events = true, map[string]audit.Event{}
	}
	found := make([]audit.Event, len(records))
	whole := true
	for i, record := range records {
		e, ok := r.events[record.ID]
		ok = ok && e.At.Equal(record.At)
		found[i], whole = e, whole && ok
		if !ok {
			found[i].ID = ""
		}
	}
	r.mu.Unlock()
	for i, e := range found {
		if e.ID != "" {
			records[i].Text = textOf(e)
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
func textOf(e audit.Event) []byte {
	t := recordText{
		Action: stored(e.Action), Outcome: stored(string(e.Outcome)), Reason: stored(e.Reason),
		Description: stored(e.Description), ClientID: stored(e.ClientID), UserID: stored(e.UserID),
		GrantID: stored(e.GrantID), Resource: stored(e.Resource), Scope: stored(e.Scope),
		Detail: stored(e.DetailJSON()), RequestID: stored(e.RequestID), Address: stored(e.Address),
		UserAgent: stored(e.UserAgent), ActorType: stored(string(e.Actor.Type)),
		ActorID: stored(e.Actor.ID), ActorName: stored(e.Actor.Name), Changes: stored(e.ChangesJSON()),
	}
	return t.text(e.At, stored(e.ID))
}

// stored returns a text as the database has it.
func stored(text string) string {
	cleaned, _ := engine.Clean([]any{text})[0].(string)
	return cleaned
}
