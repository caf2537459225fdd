package store

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/cardea-auth/cardea/internal/audit"
)

// Flow is a part of the events of one grant, or of one request, the oldest first.
type Flow struct {
	Events []audit.Event
	Gap    int    // the number of Events after which some are left out; 0: none are
	Next   string // the cursor of what comes later, or ""
}

const (
	firstSteps = 3   // events with which a flow begins, if it does not begin with the page
	companions = 500 // events of the requests of one page, at most
)

// Flow returns the events of the grant of e, or of its request if it has no grant, with those of the same requests.
// Without page.After, it is the part around e, after the first events. Later pages may repeat an event.
func (tx *Tx) Flow(e audit.Event, page Page) (flow Flow, err error) {
	page.Newest = false
	grant := e.GrantID
	if e.RequestID != "" && grant == "" {
		same, err := tx.together([]audit.Event{e})
		if err != nil {
			return flow, err
		}
		if i := slices.IndexFunc(same, func(e audit.Event) bool { return e.GrantID != "" }); i >= 0 {
			grant = same[i].GrantID
		} else {
			flow.Events = same
			return flow, nil
		}
	}
	if grant == "" {
		flow.Events = []audit.Event{e}
		return flow, nil
	}
	filter := EventFilter{GrantID: grant}
	if page.After == "" {
		back, more, err := tx.Events(filter,
			Page{Limit: max(page.limit()/2, 1), Newest: true, After: cursorAfter(e.At.UnixMicro(), e.ID)})
		if err != nil {
			return flow, err
		}
		if more != "" {
			first, _, err := tx.Events(filter, Page{Limit: firstSteps})
			if err != nil {
				return flow, err
			}
			if flow.Events, err = tx.together(first); err != nil {
				return flow, err
			}
			flow.Gap = len(flow.Events)
			oldest := back[len(back)-1]
			page.After = cursorAfter(oldest.At.UnixMicro(), oldest.ID)
		}
	}
	events, next, err := tx.Events(filter, page)
	if err != nil {
		return flow, err
	}
	events, err = tx.together(events)
	known := map[string]bool{}
	for _, e := range flow.Events {
		known[e.ID] = true
	}
	flow.Events = append(flow.Events, slices.DeleteFunc(events, func(e audit.Event) bool { return known[e.ID] })...)
	flow.Next = next
	return flow, err
}

// together returns events with the others of the same requests, the oldest first, but not the answers of the token
// endpoint, each of which has its own request.
func (tx *Tx) together(events []audit.Event) ([]audit.Event, error) {
	var places []string
	var a args
	known := map[string]bool{}
	for _, e := range events {
		known[e.ID] = true
		if e.RequestID != "" && !known[e.RequestID] {
			known[e.RequestID] = true
			a = append(a, e.RequestID)
			places = append(places, "$"+strconv.Itoa(len(a)))
		}
	}
	if len(a) == 0 {
		return events, nil
	}
	others, err := all(tx,
		"SELECT "+eventColumns+" FROM events WHERE request_id <> '' AND "+indexed+" AND request_id IN ("+
			strings.Join(places, ", ")+
			") ORDER BY at, id LIMIT "+strconv.Itoa(companions), a, scanEvent)
	for _, e := range others {
		if !known[e.ID] {
			events = append(events, e)
		}
	}
	slices.SortFunc(events, func(a, b audit.Event) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID)) })
	return events, err
}
