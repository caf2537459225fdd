package store

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"

	"github.com/cardea-auth/cardea/internal/audit"
	"github.com/cardea-auth/cardea/internal/store/engine"
)

const (
	eventColumns = "at, id, action, outcome, reason, description, client_id, user_id, grant_id, resource, scope, " +
		"detail, request_id, address, user_agent, actor_type, actor_id, actor_name, changes"
	eventWidth   = 19
	eventsAtOnce = 16 // rows in one INSERT: more are hardly faster
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
				string(e.Actor.Type), e.Actor.ID, e.Actor.Name, e.ChangesJSON())
		}
		if _, err := tx.Exec(db.insertOf(n), a); err != nil {
			return err
		}
		db.recent.add(events[:n], a)
		events = events[n:]
	}
	return nil
}

// inserts are what insertOf returns.
var inserts = map[string]*[eventsAtOnce + 1]struct {
	once sync.Once
	text string
}{"sqlite": {}, "postgres": {}}

// insertOf returns the INSERT of n events. Its parameters have no numbers on SQLite, which looks numbers up one by one:
// that would take a third of the time.
func (db *DB) insertOf(n int) string {
	insert := &inserts[db.dialect][n]
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
			if db.dialect == "sqlite" {
				b.WriteString("?")
			} else {
				b.WriteString("$" + strconv.Itoa(i+1))
			}
		}
		b.WriteString(")")
		insert.text = b.String()
	})
	return insert.text
}

func scanEvent(scan func(...any) error) (e audit.Event, err error) {
	var changes struct{ Before, After json.RawMessage }
	err = scan(instant{&e.At}, &e.ID, &e.Action, &e.Outcome, &e.Reason, &e.Description, &e.ClientID, &e.UserID,
		&e.GrantID,
		&e.Resource, &e.Scope, object{&e.Detail}, &e.RequestID, &e.Address, &e.UserAgent, &e.Actor.Type, &e.Actor.ID,
		&e.Actor.Name, object{&changes})
	e.Before, e.After = changes.Before, changes.After
	return e, err
}
