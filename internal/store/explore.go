package store

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/oauth"
)

// EventFilter selects the events of a list. The zero EventFilter shows all.
type EventFilter struct {
	Action                    string // the beginning of it: "token." shows all about tokens
	Actor                     string // the id of who asked for it, or its type and id, such as "command:ada"
	ClientID, UserID, GrantID string
	Resource                  string        // identifier
	Outcome                   audit.Outcome // or audit.Wrong
	Address                   string
	RequestID                 string
	Since, Until              time.Time // from Since on, before Until; zero: no bound
}

// most is the number of events that Events looks at for one page, at most.
const most = 2000

// A way is an index by which events are found in their order. Together its arms are what the filter asks for.
type way struct {
	arms []arm
	// rest is the same in a form that no index serves, for when another way is taken.
	rest condition
}

type condition struct {
	text   string
	values []any
}

// An arm is one range of an index: the events that have these values in the columns that the index has before their
// time, and that fulfil the condition.
type arm struct {
	columns []string
	values  []any
	condition
}

// where returns the condition for the events of the arm.
func (a arm) where() *where {
	w := new(where)
	for i, column := range a.columns {
		w.add(column+" = ?", a.values[i])
	}
	w.adds(a.condition)
	return w
}

// ordered is where for those within a range of time, and the columns by which they are in order. It compares rows, so
// that PostgreSQL does not look for them in the order of time alone: what is frequent need not be frequent everywhere.
func (a arm) ordered(within reach) (w *where, columns []string) {
	w, columns = new(where), append(slices.Clone(a.columns), "at")
	row := "(" + strings.Join(columns, ", ") + ")"
	places := "(" + strings.Repeat("?, ", len(a.columns)) + "?)"
	values := append(slices.Clone(a.values), within.first)
	values = append(append(values, a.values...), within.last)
	w.add(row+" >= "+places+" AND "+row+" <= "+places, values...)
	w.adds(a.condition)
	return w, columns
}

// column returns the way by the index of a column that holds value, and that of its refusals if only they are asked
// for.
func column(name, value string, refused bool) way {
	// A partial index is used only if the query contains its condition word for word, and no index by ||.
	a := arm{[]string{name}, []any{value}, condition{name + " <> ''", nil}}
	rest := condition{name + " || '' = ?", []any{value}}
	if refused { // not by rows: SQLite, which has no statistics, would take the index of all refusals
		a = arm{condition: condition{name + " = ? AND " + name + " <> '' AND outcome = 'refused'", []any{value}}}
		rest.text += " AND outcome || '' = 'refused'"
	}
	return way{[]arm{a}, rest}
}

// ways returns the ways that filter leaves open, and the conditions that no index finds.
func (tx *Tx) ways(filter EventFilter) (open []way, rest []condition, err error) {
	refused := filter.Outcome == audit.Refused
	for _, c := range []struct{ name, value string }{
		{"grant_id", filter.GrantID}, {"user_id", filter.UserID},
		{"client_id", filter.ClientID}, {"resource", filter.Resource}, {"address", filter.Address},
	} {
		if c.value != "" {
			open = append(open, column(c.name, c.value, refused))
		}
	}
	refusals := len(open) > 0 && refused // each way has only these
	if filter.RequestID != "" {
		open = append(open, byRequest(filter.RequestID))
	}
	if filter.Actor != "" {
		open = append(open, byActor(filter.Actor))
	}
	switch {
	case filter.Outcome == "" || refusals:
	case filter.Outcome == audit.Allowed: // most events: an index would be none the quicker
		rest = append(rest, hasOutcome(filter.Outcome))
	default:
		open = append(open, byOutcome(filter.Outcome))
	}
	switch {
	case filter.Action == "":
	case strings.HasPrefix(audit.Issued, filter.Action): // most events
		rest = append(rest, hasAction(filter.Action))
	default:
		w, err := tx.byAction(filter.Action)
		if err != nil {
			return nil, nil, err
		}
		open = append(open, w)
	}
	return open, rest, nil
}

// byOutcome returns the way to what was refused, to what failed, or to both.
func byOutcome(outcome audit.Outcome) way {
	w := way{rest: hasOutcome(outcome)}
	if outcome == audit.Wrong {
		w.rest = condition{"outcome || '' <> ?", []any{string(audit.Allowed)}}
	}
	for _, one := range []audit.Outcome{audit.Refused, audit.Failed} {
		if outcome == one || outcome == audit.Wrong {
			w.arms = append(w.arms, arm{condition: condition{"outcome = '" + string(one) + "'", nil}})
		}
	}
	return w
}

func hasOutcome(outcome audit.Outcome) condition {
	return condition{"outcome || '' = ?", []any{string(outcome)}}
}

// byActor returns the way to what an actor asked for. What a client asked for itself is in the index of the clients.
func byActor(actor string) way {
	kind, id, found := strings.Cut(actor, ":")
	switch audit.ActorType(kind) {
	case audit.ByUser, audit.ByClient, audit.ByCommand:
	default:
		found = false
	}
	const others = "actor_id <> '' AND actor_id <> client_id"
	if !found {
		return way{
			arms: []arm{
				{[]string{"actor_id"}, []any{actor}, condition{others, nil}},
				{[]string{"client_id"}, []any{actor},
					condition{"client_id <> '' AND actor_id || '' = ?", []any{actor}}},
			},
			rest: condition{"actor_id || '' = ?", []any{actor}},
		}
	}
	w := way{
		arms: []arm{{[]string{"actor_id"}, []any{id}, condition{others + " AND actor_type = ?", []any{kind}}}},
		rest: condition{"actor_id || '' = ? AND actor_type = ?", []any{id, kind}},
	}
	if kind == string(audit.ByClient) {
		w.arms = append(w.arms, arm{[]string{"client_id"}, []any{id},
			condition{"client_id <> '' AND actor_id || '' = ? AND actor_type = ?", []any{id, kind}}})
	}
	return w
}

// indexed is the condition for the events that the indexes of actions and requests have.
const indexed = "action <> '" + audit.Issued + "'"

// The events of a request are dated in this time around that in its id.
const (
	beforeRequest = time.Second
	afterRequest  = 15 * time.Second
)

// byRequest returns the way to the events of a request. An answer of the token endpoint is found by the time in the id.
func byRequest(id string) way {
	w := way{
		arms: []arm{{[]string{"request_id"}, []any{id}, condition{"request_id <> '' AND " + indexed, nil}}},
		rest: condition{"request_id || '' = ?", []any{id}},
	}
	if at, ok := oauth.TimeOfID(id, ""); ok {
		w.arms = append(w.arms,
			arm{condition: condition{"action = '" + audit.Issued + "' AND at > ? AND at < ? AND request_id || '' = ?",
				[]any{at.Add(-beforeRequest).UnixMicro(), at.Add(afterRequest).UnixMicro(), id}}})
	}
	return w
}

func hasAction(prefix string) condition {
	return condition{"substr(action, 1, ?) = ?", []any{len(prefix), prefix}}
}

// byAction returns the way to the actions that begin with prefix. LIKE is case-sensitive on only one of the databases,
// and which texts lie between two others depends on the language of the other, so the actions there are are asked for:
// the index tells them at once, because there are few.
func (tx *Tx) byAction(prefix string) (way, error) {
	actions, err := all(tx, `WITH RECURSIVE known (action) AS (
			SELECT MIN(action) FROM events WHERE `+indexed+`
			UNION ALL SELECT (SELECT MIN(action) FROM events WHERE action > known.action AND `+indexed+`)
			FROM known WHERE action IS NOT NULL
		) SELECT action FROM known WHERE action IS NOT NULL`, nil,
		func(scan func(...any) error) (action string, err error) { return action, scan(&action) })
	if err != nil {
		return way{}, err
	}
	w := way{rest: hasAction(prefix)}
	for _, action := range actions {
		if strings.HasPrefix(action, prefix) {
			w.arms = append(w.arms, arm{[]string{"action"}, []any{action}, condition{indexed, nil}})
		}
	}
	return w, nil
}

// A reach is a range of time in microseconds, both ends included.
type reach struct{ first, last int64 }

// Events returns a page of the events that filter shows and the cursor of the next page, or "". It does not return
// events that were recorded in this transaction.
//
// Events is quick however long the log is. It finds the events by the condition of the filter that goes back furthest,
// and looks at 2,000 of those for one page at most. So a page may have fewer events than page.Limit, even none,
// although a next page follows.
func (tx *Tx) Events(filter EventFilter, page Page) (events []audit.Event, next string, err error) {
	within := reach{0, math.MaxInt64}
	if !filter.Since.IsZero() {
		within.first = filter.Since.UnixMicro()
	}
	if !filter.Until.IsZero() {
		within.last = filter.Until.UnixMicro() - 1
	}
	after := condition{}
	if page.After != "" {
		at, id, err := readCursor(page.After)
		if err != nil {
			return nil, "", err
		}
		if page.Newest {
			within.last = min(within.last, at)
			after = condition{"(at < ? OR at = ? AND id < ?)", []any{at, at, id}}
		} else {
			within.first = max(within.first, at)
			after = condition{"(at > ? OR at = ? AND id > ?)", []any{at, at, id}}
		}
	}
	open, rest, err := tx.ways(filter)
	if err != nil {
		return nil, "", err
	}
	if len(open) == 0 {
		open = []way{{arms: []arm{{}}}}
	}
	look, limit := most, page.limit()
	if len(open)+len(rest) == 1 { // every event that is looked at is shown
		look = limit + 1
	}
	best, within, full, err := tx.furthest(open, within, page.Newest, look)
	if err != nil {
		return nil, "", err
	}
	for i, w := range open {
		if i != best {
			rest = append(rest, w.rest)
		}
	}
	if after.text != "" {
		rest = append(rest, after)
	}
	for _, arm := range open[best].arms {
		found, err := tx.eventsOf(arm, rest, within, page.Newest, limit+1)
		if err != nil {
			return nil, "", err
		}
		events = append(events, found...)
	}
	slices.SortFunc(events, func(a, b audit.Event) int {
		if page.Newest {
			a, b = b, a
		}
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.ID, b.ID))
	})
	switch {
	case len(events) > limit:
		events = events[:limit]
		return events, cursorAfter(events[limit-1].At.UnixMicro(), events[limit-1].ID), nil
	case full && page.Newest:
		return events, cursorAfter(within.first-1, pastAll), nil
	case full:
		return events, cursorAfter(within.last+1, ""), nil
	}
	return events, "", nil
}

// pastAll is an id that comes after that of every event, in all languages.
const pastAll = "zzzz"

// furthest returns the way whose events, look of them, go furthest from the end of within at which the page begins; the
// part of within in which these lie; and whether there may be more beyond it.
func (tx *Tx) furthest(open []way, within reach, newest bool, look int) (best int, part reach, full bool, err error) {
	for i, w := range open {
		seen, n, err := tx.extent(w, within, newest, look)
		if err != nil {
			return 0, part, false, err
		}
		if n < look { // it has all: nothing goes further
			return i, seen, false, nil
		}
		if !full || newest && seen.first < part.first || !newest && seen.last > part.last {
			best, part, full = i, seen, true
		}
	}
	return best, part, full, nil
}

// extent returns in which part of within the next events of a way lie, look of them, and their number. If that is look,
// there may be more beyond. The part is the one that all arms were seen in. It reads an index only, and it keeps
// PostgreSQL from looking for what is frequent in the log where it is not.
func (tx *Tx) extent(w way, within reach, newest bool, look int) (part reach, n int, err error) {
	part = reach{math.MaxInt64, 0}
	bound, full := within, false
	for _, arm := range w.arms {
		inner, order := arm.ordered(within)
		var seen reach
		count := 0
		err = tx.row("SELECT COUNT(*), COALESCE(MIN(at), 0), COALESCE(MAX(at), 0) FROM (SELECT at FROM events"+
			inner.String()+" ORDER BY "+strings.Join(order, direction(newest)+", ")+direction(newest)+
			" LIMIT "+strconv.Itoa(look)+") AS next",
			inner.args, &count, &seen.first, &seen.last)
		if err != nil {
			return part, 0, err
		}
		n += count
		if count == 0 {
			continue
		}
		part.first, part.last = min(part.first, seen.first), max(part.last, seen.last)
		switch {
		case count < look:
		case newest:
			bound.first, full = max(bound.first, seen.first), true
		default:
			bound.last, full = min(bound.last, seen.last), true
		}
	}
	part.first, part.last = max(part.first, bound.first), min(part.last, bound.last)
	if !full {
		n = min(n, look-1)
	}
	return part, n, nil
}

// eventsOf returns the first events within a range of time that an arm of a way finds and that fulfil the rest.
func (tx *Tx) eventsOf(a arm, rest []condition, within reach, newest bool, limit int) ([]audit.Event, error) {
	w := a.where()
	w.add("at >= ? AND at <= ?", within.first, within.last)
	for _, c := range rest {
		w.adds(c)
	}
	return all(tx, "SELECT "+eventColumns+" FROM events"+w.String()+" ORDER BY at"+direction(newest)+", id"+
		direction(newest)+" LIMIT "+strconv.Itoa(limit), w.args, scanEvent)
}

func (w *where) adds(c condition) {
	if c.text != "" {
		w.add(c.text, c.values...)
	}
}

func direction(newest bool) string {
	if newest {
		return " DESC"
	}
	return ""
}

// Event returns the event with the given id, or ErrNotFound. The time in the id finds it.
func (tx *Tx) Event(id string) (audit.Event, error) {
	at, ok := oauth.TimeOfID(id, eventPrefix)
	if !ok {
		return audit.Event{}, ErrNotFound
	}
	found, err := all(tx, "SELECT "+eventColumns+" FROM events WHERE at = $1 AND id = $2", args{at.UnixMicro(), id},
		scanEvent)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return audit.Event{}, err
	}
	return found[0], nil
}
