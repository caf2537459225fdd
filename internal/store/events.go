package store

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

const (
	eventColumns = "at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope, " +
		"detail, request_id, address, user_agent, actor_type, actor_id, actor_name"
	eventWidth   = 18
	eventsAtOnce = 16 // rows in one INSERT: more are slower on SQLite, which looks parameters up one by one
)

// insertEvents sets the times of the events and writes them, eventsAtOnce in one statement.
func (db *DB) insertEvents(tx *engine.Tx, events []audit.Event) error {
	db.date(events)
	for len(events) > 0 {
		n := min(len(events), eventsAtOnce)
		a := make(args, 0, n*eventWidth)
		for _, e := range events[:n] {
			a = append(a, e.At.UnixMicro(), e.ID, e.Action, string(e.Outcome), e.Reason, e.Description, e.ClientID,
				e.UserID, e.GrantID,
				e.Resource, e.Scope, e.DetailJSON(), e.RequestID, e.Address, e.UserAgent,
				string(e.Actor.Type), e.Actor.ID, e.Actor.Name)
		}
		if _, err := tx.Exec(insertOf(n), a); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

var inserts [eventsAtOnce + 1]struct {
	once sync.Once
	text string
}

// insertOf returns the INSERT of n events.
func insertOf(n int) string {
	insert := &inserts[n]
	insert.once.Do(func() {
		var b strings.Builder
		b.WriteString("INSERT INTO events (" + eventColumns + ") VALUES ")
		for i := range n * eventWidth {
			switch {
			case i == 0:
				b.WriteString("(")
			case i%eventWidth == 0:
				b.WriteString("), (")
			default:
				b.WriteString(", ")
			}
			b.WriteString("$" + strconv.Itoa(i+1))
		}
		b.WriteString(")")
		insert.text = b.String()
	})
	return insert.text
}

// EventFilter selects the events of a list. The zero EventFilter shows all.
type EventFilter struct {
	Action                    string // the beginning of it: "token." shows all about tokens
	ClientID, UserID, GrantID string
	Outcome                   audit.Outcome
	Since, Until              time.Time // from Since on, before Until; zero: no bound
}

// Events returns a page of the events that filter shows and the cursor of the next page, or "". It does not return
// events that were recorded in this transaction.
func (tx *Tx) Events(filter EventFilter, page Page) (events []audit.Event, next string, err error) {
	w := new(where)
	// A partial index is used only if the query contains its condition word for word.
	if filter.ClientID != "" {
		w.add("client_id = ? AND client_id <> ''", filter.ClientID)
	}
	if filter.UserID != "" {
		w.add("user_id = ? AND user_id <> ''", filter.UserID)
	}
	if filter.GrantID != "" {
		w.add("grant_id = ? AND grant_id <> ''", filter.GrantID)
	}
	if filter.Action != "" { // LIKE is case-sensitive on only one of the databases, and has wildcards
		w.add("substr(action, 1, ?) = ?", len(filter.Action), filter.Action)
	}
	if filter.Outcome != "" {
		w.add("outcome = ?", string(filter.Outcome))
	}
	if !filter.Since.IsZero() {
		w.add("at >= ?", filter.Since.UnixMicro())
	}
	if !filter.Until.IsZero() {
		w.add("at < ?", filter.Until.UnixMicro())
	}
	return paged(tx, "SELECT "+eventColumns+" FROM events", w, page, "at", "id", scanEvent,
		func(e audit.Event) (time.Time, string) { return e.At, e.ID })
}

func scanEvent(scan func(...any) error) (e audit.Event, err error) {
	err = scan(instant{&e.At}, &e.ID, &e.Action, &e.Outcome, &e.Reason, &e.Description, &e.ClientID, &e.UserID,
		&e.GrantID,
		&e.Resource, &e.Scope, object{&e.Detail}, &e.RequestID, &e.Address, &e.UserAgent, &e.Actor.Type, &e.Actor.ID, &e.Actor.Name)
	return e, err
}
