package admin

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store"
)

// Event is an audit event with the present names of what it refers to. A name is "" if the event does not refer to such
// a record, or if the record is deleted.
type Event struct {
	audit.Event
	ClientName   string `json:"client_name,omitempty"`
	User         string `json:"user,omitempty"`      // e-mail address
	UserName     string `json:"user_name,omitempty"` // "" also if the person gave none
	ResourceName string `json:"resource_name,omitempty"`
}

// Events returns a page of the events that match filter, and the cursor of the next page, "" if there is none. A page
// may have fewer events than page.Limit although a next page follows, as store.Tx.Events says. The filter's UserID may
// be an e-mail address, and its Resource an id.
func (o *Operations) Events(ctx context.Context, by Caller, filter store.EventFilter,
	page store.Page) (views []Event, next string, err error) {
	err = o.look(ctx, by, Events, func(tx *store.Tx) (err error) {
		if filter, err = resolved(tx, filter); err != nil {
			return err
		}
		events, cursor, err := tx.Events(filter, page)
		if err != nil {
			return err
		}
		next = cursor
		views, err = viewEvents(tx, events)
		return err
	})
	return views, next, err
}

// Sealed says how far the audit log is sealed.
type Sealed struct {
	Events int64  // number of them, those included that retention has deleted; 0 if nothing is sealed
	At     Moment // when the last of them was sealed
}

// Sealed returns how far the audit log is sealed.
func (o *Operations) Sealed(ctx context.Context, by Caller) (s Sealed, err error) {
	err = o.look(ctx, by, Events, func(tx *store.Tx) error {
		last, err := tx.LastCheckpoint()
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		s = Sealed{last.Size, Moment{last.At}}
		return err
	})
	return s, err
}

// Event returns the event with the given id.
func (o *Operations) Event(ctx context.Context, by Caller, id string) (view Event, err error) {
	err = o.look(ctx, by, Events, func(tx *store.Tx) error {
		e, err := tx.Event(id)
		if errors.Is(err, store.ErrNotFound) {
			err = notFound(Events, id, "there is no event %s")
		}
		if err != nil {
			return err
		}
		views, err := viewEvents(tx, []audit.Event{e})
		if err == nil {
			view = views[0]
		}
		return err
	})
	return view, err
}

// viewEvents returns the views of a page of events. It looks their names up all at once.
func viewEvents(tx *store.Tx, events []audit.Event) ([]Event, error) {
	referred := func(key func(audit.Event) string) (keys []string) {
		for _, e := range events {
			keys = append(keys, key(e))
		}
		slices.Sort(keys)
		return slices.DeleteFunc(slices.Compact(keys), func(key string) bool { return key == "" })
	}
	names, err := tx.Names(
		referred(func(e audit.Event) string { return e.ClientID }),
		referred(func(e audit.Event) string { return e.UserID }),
		referred(func(e audit.Event) string { return e.Resource }),
	)
	views := make([]Event, len(events))
	for i, e := range events {
		views[i] = Event{
			Event: e, ClientName: names.Clients[e.ClientID], User: names.Emails[e.UserID],
			UserName: names.People[e.UserID], ResourceName: names.Resources[e.Resource],
		}
	}
	return views, err
}

// Tell returns the event as a sentence, as audit.Event.Sentence says.
func (e Event) Tell() string {
	return e.Sentence(audit.Names{Client: e.ClientName, Person: cmp.Or(e.UserName, e.User), Resource: e.ResourceName})
}

// Step is an event of a flow.
type Step struct {
	Event
	Told  string `json:"told"`            // as a sentence
	Later string `json:"later,omitempty"` // than the step before: "14 minutes later"
	Gap   bool   `json:"gap,omitempty"`   // steps before this one are left out
}

// Flow has the events before and after an event: those of its grant, and those of the same requests.
type Flow struct {
	Steps []Step `json:"steps"` // the oldest first
	Next  string `json:"next,omitempty"`
}

// Flow returns a page of the flow of the event with the given id. The first page is the part around the event, after
// the first steps; each later page goes on from there, and may repeat a step.
func (o *Operations) Flow(ctx context.Context, by Caller, id string, page store.Page) (view Flow, err error) {
	err = o.look(ctx, by, Events, func(tx *store.Tx) error {
		e, err := tx.Event(id)
		if errors.Is(err, store.ErrNotFound) {
			return notFound(Events, id, "there is no event %s")
		}
		if err != nil {
			return err
		}
		flow, err := tx.Flow(e, page)
		if err != nil {
			return err
		}
		events, err := viewEvents(tx, flow.Events)
		view = Flow{Steps: make([]Step, len(events)), Next: flow.Next}
		for i, e := range events {
			view.Steps[i] = Step{Event: e, Told: e.Tell(), Gap: i > 0 && i == flow.Gap}
			if i > 0 {
				view.Steps[i].Later = audit.Later(e.At.Sub(events[i-1].At))
			}
		}
		return err
	})
	return view, err
}

// resolved returns the filter with a person by id and a resource by identifier.
func resolved(tx *store.Tx, filter store.EventFilter) (store.EventFilter, error) {
	if strings.Contains(filter.UserID, "@") { // an id is not looked up, because its person may be deleted
		u, err := findUser(tx, filter.UserID)
		if err != nil {
			return filter, err
		}
		filter.UserID = u.ID
	}
	if filter.Resource != "" {
		switch r, err := findResource(tx.Resource, filter.Resource); {
		case err == nil:
			filter.Resource = r.Identifier
		case !errors.As(err, new(*Error)): // one that is deleted has events too
			return filter, err
		}
	}
	return filter, nil
}

// Overview is what happened in a time.
type Overview struct {
	Since      Moment           `json:"since"`       // the begin of the first part
	Until      Moment           `json:"until"`       // the end of the last
	Step       Span             `json:"step"`        // the length of each part
	CompleteTo Moment           `json:"complete_to"` // events after that are not counted yet
	Parts      []OverviewPart   `json:"parts"`
	Reasons    map[string]int64 `json:"reasons"` // refusals by reason, of all parts
}

// OverviewPart is what happened in a part of the time.
type OverviewPart struct {
	Begins  Moment           `json:"begins"`
	Tokens  int64            `json:"tokens"`   // answers of the token endpoint with a token
	SignIns int64            `json:"sign_ins"` // of people
	Refused int64            `json:"refused"`  // decisions, of all kinds
	Failed  int64            `json:"failed"`   // calls of tools, and tools that are not as reviewed
	Reasons map[string]int64 `json:"reasons"`  // of these, by their error code; "" has none
	// Agents is the number of clients that obtained tokens: in a day, if parts are days, or the most in one day of the
	// part if they are longer, and likewise in an hour if they are shorter.
	Agents int64 `json:"agents"`
}

// steps are the lengths that parts of an overview may have.
var steps = []time.Duration{
	time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	2 * 24 * time.Hour, 7 * 24 * time.Hour, 14 * 24 * time.Hour, 28 * 24 * time.Hour,
}

// maxParts is the largest number of parts of an overview.
const maxParts = 60

// Overview counts what happened from since to until, in 60 parts at most, each of an hour or more; the first begins at
// a full hour, or day (UTC).
func (o *Operations) Overview(ctx context.Context, by Caller, since, until time.Time) (view Overview, err error) {
	if !since.Before(until) {
		return view, invalid("since", "{since} must be before {until}")
	}
	if first := until.AddDate(-50, 0, 0); since.Before(first) { // the log begins later
		since = first
	}
	step := steps[0]
	for i := 0; ; i++ {
		if i < len(steps) {
			step = steps[i]
		} else {
			step *= 2
		}
		since = since.Truncate(min(step, 24*time.Hour)).UTC()
		if until.Sub(since) <= maxParts*step {
			break
		}
	}
	n := int((until.Sub(since) + step - 1) / step)
	view = Overview{
		Since: Moment{since}, Until: Moment{since.Add(time.Duration(n) * step)}, Step: Span(step),
		Parts: make([]OverviewPart, n), Reasons: map[string]int64{},
	}
	for i := range view.Parts {
		view.Parts[i] = OverviewPart{Begins: Moment{since.Add(time.Duration(i) * step)}, Reasons: map[string]int64{}}
	}
	err = o.look(ctx, by, Events, func(tx *store.Tx) error {
		counts, complete, err := tx.Tallies(since, view.Until.Time, step)
		if err != nil {
			return err
		}
		view.CompleteTo = Moment{complete}
		for _, c := range counts {
			part := &view.Parts[c.Part]
			switch {
			case c.Outcome == string(audit.Refused):
				part.Refused += c.N
				part.Reasons[c.Reason] += c.N
				view.Reasons[c.Reason] += c.N
			case c.Outcome == string(audit.Failed):
				part.Failed += c.N
			case c.Action == audit.Issued:
				part.Tokens += c.N
			case c.Action == audit.SignedIn:
				part.SignIns += c.N
			}
		}
		agents, err := tx.ActiveClients(since, view.Until.Time, step)
		for i, n := range agents {
			view.Parts[i].Agents = n
		}
		return err
	})
	return view, err
}
